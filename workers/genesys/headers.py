"""The API's headers that are more than text: how long to wait, and what is left of the rate limit."""

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class RateLimitHeaders:
    """What the API says of its current window: calls counted and allowed in it, seconds until it ends."""

    count: float
    allowed: float
    reset_seconds: float


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds from now, given as a number or an HTTP date; anything else counts as missing."""
    value = headers.get("Retry-After", "")
    number = _number(value)
    if number is not None:
        return number
    until = _date(value)
    if until is None:
        return None
    # Measured by the server's own clock when it tells, since ours may differ.
    told = _date(headers.get("Date", ""))
    seconds = until - (time.time() if told is None else told)
    return seconds if seconds >= 0 else None


def rate_limit(headers: Mapping[str, str]) -> RateLimitHeaders | None:
    """The `inin-ratelimit-*` headers, None unless all three are there and numbers."""
    count, allowed, reset = (
        _number(headers.get(f"inin-ratelimit-{name}", "")) for name in ("count", "allowed", "reset")
    )
    if count is None or allowed is None or reset is None:
        return None
    return RateLimitHeaders(count, allowed, reset)


def _number(value: str) -> float | None:
    """A plain decimal of any size that a float has; no sign, exponent, NaN or infinity."""
    if not _DECIMAL.fullmatch(value.strip()):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
