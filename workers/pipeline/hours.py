"""Quiet hours: at what time of day a backfill may go, by the clock on the wall of a time zone."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tzlocal import get_localzone_name

from workers.errors import InputError

_FORM: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)")
#: Days to look for the next opening in: a zone may leave one out, and a change of clocks the hour that is wanted.
_DAYS: Final = 4
_DAY_SECONDS: Final = 86_400
#: As far ahead as anybody wants to know when something is done.
_HORIZON_SECONDS: Final = 3650.0 * _DAY_SECONDS


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` to `end`, over midnight when that is the smaller one, by the clock of `zone`.

    Whatever the clock shows counts: an hour that it skips does not happen, and one that it shows twice happens twice.
    """

    start: time
    end: time
    zone: ZoneInfo

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M} {self.zone.key}"

    def is_open(self, now: float) -> bool:
        """Whether it may go at this moment (Unix seconds)."""
        shown = datetime.fromtimestamp(now, self.zone).time()
        if self.start < self.end:
            return self.start <= shown < self.end
        return shown >= self.start or shown < self.end

    def opens_at(self, now: float) -> float:
        """The first moment from now on at which it may go, Unix seconds."""
        return now if self.is_open(now) else next(one for one in self._moments(now) if self.is_open(one))

    def closes_at(self, now: float) -> float:
        """The first moment from now on at which it may not go, Unix seconds."""
        return next(one for one in self._moments(now) if not self.is_open(one)) if self.is_open(now) else now

    def after_open(self, now: float, seconds: float) -> float:
        """The moment at which it will have been open for so many seconds from now on; at most years away."""
        moment, left, horizon = self.opens_at(now), seconds, now + _HORIZON_SECONDS
        while (closes := self.closes_at(moment)) - moment < left and moment < horizon:
            left -= closes - moment
            moment = self.opens_at(closes)
        return moment + left

    def _moments(self, now: float) -> list[float]:
        """The moments after now at which it may open or close: the clock shows one of the times, or is changed."""
        today = datetime.fromtimestamp(now, self.zone).date()
        found = set(self._changes(now))
        for days in range(-1, _DAYS):
            for shown in (self.start, self.end):
                one = datetime.combine(today + timedelta(days), shown, self.zone)
                found |= {one.timestamp(), one.replace(fold=1).timestamp()}
        return sorted(one for one in found if one > now)

    def _changes(self, now: float) -> Iterator[float]:
        """The moments of the next days at which the clock is put forward or back."""
        for days in range(_DAYS):
            before = math.floor(now) + days * _DAY_SECONDS
            after, offset = before + _DAY_SECONDS, self._offset(before)
            if offset != self._offset(after):
                while after - before > 1:
                    middle = (before + after) // 2
                    before, after = (middle, after) if self._offset(middle) == offset else (before, middle)
                yield float(after)

    def _offset(self, moment: float) -> timedelta | None:
        return datetime.fromtimestamp(moment, self.zone).utcoffset()


@lru_cache(maxsize=256)
def hours(text: str) -> Hours:
    """What the ledger's form says, such as `20:00-06:00 Europe/Madrid`."""
    between, _, zone = text.partition(" ")
    start, end = (time.fromisoformat(one) for one in between.split("-"))
    return Hours(start, end, ZoneInfo(zone))


def may_go(only_between: str | None, now: float) -> bool:
    """Whether a backfill with these hours, None for any hour, may go at this moment (Unix seconds)."""
    return only_between is None or hours(only_between).is_open(now)


def read_hours(between: str, zone: str | None) -> Hours:
    """What a person wrote, without a zone in the machine's; raises InputError for anything else."""
    found = _FORM.fullmatch(between.strip())
    if found is None:
        raise InputError(f"--only-between '{between}' is no span of time: write it as 20:00-06:00.")
    from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
    start, end = time(from_hour, from_minute), time(to_hour, to_minute)
    if start == end:
        raise InputError(
            f"--only-between '{between}' begins and ends at the same time: leave it out for all day, or name two times."
        )
    return Hours(start, end, _zone(zone or machine_zone()))


def machine_zone() -> str:
    """The name of this machine's time zone, UTC where it has none."""
    try:
        return get_localzone_name() or "UTC"
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"--time-zone '{name}' is not known: name one such as Europe/Madrid or UTC.") from None
