"""The sandbox's rate limits: how many calls of each class it lets through, and when to come back."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from workers.sandbox.traffic import NEIGHBOUR, NEIGHBOUR_429, PASSED, REJECTED_429, Neighbour, Series

SUBMIT = "submit"


class Limiter(Protocol):
    """Counts the calls that share one limit; `now` is monotonic seconds, `per_second` what passes in the long run."""

    @property
    def per_second(self) -> float: ...

    def take(self, now: float) -> int | None:
        """None when the call may pass, else whole seconds to wait: at least 1, and never too few."""

    def set_rate(self, rate: float, now: float) -> None:
        """Lets that many calls a second through from now on; what was counted stays counted."""

    def headers(self, now: float) -> dict[str, str]:
        """What an answer that is no error tells about the limit."""


class TokenBucket:
    """Lets `rate` calls a second through, and at most one second's worth at once."""

    def __init__(self, rate: float) -> None:
        self.per_second = rate
        self._tokens = self._capacity
        self._filled_at = -math.inf

    def take(self, now: float) -> int | None:
        self._fill(now)
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        return max(1, math.ceil((1 - self._tokens) / self.per_second))

    def set_rate(self, rate: float, now: float) -> None:
        self._fill(now)
        self.per_second = rate
        self._tokens = min(self._tokens, self._capacity)

    def headers(self, now: float) -> dict[str, str]:  # noqa: ARG002 it tells nothing
        return {}

    @property
    def _capacity(self) -> float:
        return max(1.0, self.per_second)

    def _fill(self, now: float) -> None:
        elapsed = max(0.0, now - self._filled_at)
        self._tokens = min(self._capacity, self._tokens + elapsed * self.per_second)
        self._filled_at = now


class FixedWindow:
    """Lets as many calls through in each window as the rate gives it, all at once if they come so.

    The first window begins at `started_at`. A rate of less than one call a window makes the window longer. `tells`:
    answers have the `inin-ratelimit-*` headers.
    """

    def __init__(self, rate: float, started_at: float, *, seconds: float, tells: bool) -> None:
        self._started_at = started_at
        self._shortest = seconds
        self._tells = tells
        self._window = (0.0, 0.0)
        self._count = 0
        self._seconds, self._allowed = _window(rate, seconds)

    @property
    def per_second(self) -> float:
        return self._allowed / self._seconds

    def take(self, now: float) -> int | None:
        left = self._left(now)
        if self._count < self._allowed:
            self._count += 1
            return None
        return max(1, math.ceil(left))

    def set_rate(self, rate: float, now: float) -> None:
        self._left(now)
        self._seconds, self._allowed = _window(rate, self._shortest)

    def headers(self, now: float) -> dict[str, str]:
        if not self._tells:
            return {}
        left = self._left(now)
        told = {"count": self._count, "allowed": self._allowed, "reset": max(1, math.ceil(left))}
        return {f"inin-ratelimit-{name}": f"{value}" for name, value in told.items()}

    def _left(self, now: float) -> float:
        """Seconds until the window ends; a new one starts counting at zero."""
        ordinal, into = divmod(now - self._started_at, self._seconds)
        if (ordinal, self._seconds) != self._window:
            self._window = (ordinal, self._seconds)
            self._count = 0
        return self._seconds - into


class SlidingSecond:
    """Lets as many calls through as the rate has in any second, wherever it begins; under 1/s, one in any 1/rate s."""

    def __init__(self, rate: float) -> None:
        self._passed: deque[float] = deque()
        self._seconds, self._allowed = _window(rate, 1.0)

    @property
    def per_second(self) -> float:
        return self._allowed / self._seconds

    def take(self, now: float) -> int | None:
        while self._passed and self._passed[0] <= now - self._seconds:
            self._passed.popleft()
        if len(self._passed) < self._allowed:
            self._passed.append(now)
            return None
        return max(1, math.ceil(self._passed[-self._allowed] + self._seconds - now))

    def set_rate(self, rate: float, now: float) -> None:  # noqa: ARG002 the calls that passed are known
        self._seconds, self._allowed = _window(rate, 1.0)

    def headers(self, now: float) -> dict[str, str]:  # noqa: ARG002 it tells nothing
        return {}


def _window(rate: float, shortest: float) -> tuple[float, int]:
    """How long a window of whole calls is, and how many calls it has."""
    seconds = max(shortest, 1 / rate)
    return seconds, math.floor(rate * seconds + 1e-9)


#: Each makes a limiter of so many calls a second, from a rate and the moment at which it starts.
LIMITERS: dict[str, Callable[[float, float], Limiter]] = {
    "token-bucket": lambda rate, _: TokenBucket(rate),
    "fixed-second": lambda rate, started_at: FixedWindow(rate, started_at, seconds=1.0, tells=False),
    "sliding-second": lambda rate, _: SlidingSecond(rate),
    "minute": lambda rate, started_at: FixedWindow(rate, started_at, seconds=60.0, tells=True),
}


class Limits:
    """One limiter for each class of call; with `shared`, all but the token's are the same one.

    A neighbour, as another app of the same customer, draws on the submissions' limit as well. `clock` gives monotonic
    seconds.
    """

    def __init__(self, kind: str, rate: float, *, shared: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.kind = kind
        self.rate = rate
        self._shared = shared
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Makes every limit unused, starts windows and series now, and sends the neighbour away; the rate stays."""
        make, now = LIMITERS[self.kind], self._clock()
        submit = make(self.rate, now)
        self._of: dict[str, Limiter] = {
            SUBMIT: submit,
            "media": submit if self._shared else make(2 * self.rate, now),
            "status": submit if self._shared else make(self.rate, now),
            "token": make(1, now),
        }
        self._neighbour = Neighbour((), 1.0, now)
        self._series = Series(now, submit.per_second)

    def take(self, call_class: str) -> int | None:
        """None when the call may pass, else whole seconds to wait."""
        now = self._catch_up()
        retry_after_seconds = self._of[call_class].take(now)
        if call_class == SUBMIT:
            self._series.count(PASSED if retry_after_seconds is None else REJECTED_429, now)
        return retry_after_seconds

    def headers(self, call_class: str) -> dict[str, str]:
        """What an answer that is no error tells about the limit of its class."""
        return self._of[call_class].headers(self._clock())

    def set_rate(self, rate: float) -> None:
        """Changes the limit while calls come in: submissions a second, and the other classes in proportion."""
        now = self._catch_up()
        self.rate = rate
        for call_class, per_second in ((SUBMIT, rate), ("media", 2 * rate), ("status", rate)):
            if call_class == SUBMIT or not self._shared:
                self._of[call_class].set_rate(per_second, now)
        self._series.set_rate(self._of[SUBMIT].per_second, now)

    def set_neighbour(self, shares: tuple[float, ...], seconds: float) -> None:
        """From now on a neighbour takes these shares of the submissions' limit, each for so many seconds, then none."""
        self._neighbour = Neighbour(shares, seconds, self._catch_up())

    def neighbour(self) -> dict[str, Any]:
        """The neighbour as it was set, and the share that it takes now."""
        return self._neighbour.shown(self._catch_up())

    def series(self) -> dict[str, Any]:
        """What became of submissions and of the neighbour's calls, second by second."""
        return self._series.shown(self._catch_up())

    def _catch_up(self) -> float:
        """The time now, after the neighbour has made the calls that were its turn until now."""
        now, submit = self._clock(), self._of[SUBMIT]
        for turn in self._neighbour.turns(now, submit.per_second):
            self._series.count(NEIGHBOUR if submit.take(turn) is None else NEIGHBOUR_429, turn)
        return now
