"""The sandbox's rate limits: how many calls of each class it lets through, and when to come back."""

import math
import time
from collections.abc import Callable
from typing import Protocol


class Limiter(Protocol):
    """Counts the calls that share one limit."""

    def take(self, now: float) -> int | None:
        """None when the call may pass, else whole seconds to wait (at least 1); `now` is monotonic seconds."""


class TokenBucket:
    """Lets `rate` calls a second through, and at most one second's worth at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._capacity = max(1.0, rate)
        self._tokens = self._capacity
        self._filled_at = -math.inf

    def take(self, now: float) -> int | None:
        elapsed = max(0.0, now - self._filled_at)
        self._tokens = min(self._capacity, self._tokens + elapsed * self._rate)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        return max(1, math.ceil((1 - self._tokens) / self._rate))


LIMITERS: dict[str, Callable[[float], Limiter]] = {"token-bucket": TokenBucket}


class Limits:
    """One limiter for each class of call; with `shared`, all but the token's are the same one."""

    def __init__(self, kind: str, rate: float, *, shared: bool) -> None:
        make = LIMITERS[kind]
        submit = make(rate)
        self._of: dict[str, Limiter] = {
            "submit": submit,
            "media": submit if shared else make(2 * rate),
            "status": submit if shared else make(rate),
            "token": make(1),
        }

    def take(self, call_class: str) -> int | None:
        """None when the call may pass, else whole seconds to wait."""
        return self._of[call_class].take(time.monotonic())
