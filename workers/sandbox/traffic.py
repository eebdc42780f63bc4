"""Who draws on the submissions' limit: a neighbour that takes its share, and what passed in each second."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

PASSED, REJECTED_429, NEIGHBOUR, NEIGHBOUR_429 = "passed", "rejected_429", "neighbour", "neighbour_429"
COLUMNS = (PASSED, REJECTED_429, NEIGHBOUR, NEIGHBOUR_429)
#: No more than the last hour is shown.
LONGEST_SECONDS = 3600


class Neighbour:
    """Another app on the same limit: takes `shares` of it one after the other, each for `seconds`, evenly spread.

    A call that is refused is lost: it neither waits nor tries again.
    """

    def __init__(self, shares: tuple[float, ...], seconds: float, now: float) -> None:
        self._shares = shares
        self._seconds = seconds
        self._began = self._at = now
        self._part = 0
        self._owed = 0.5

    def turns(self, until: float, limit_per_second: float) -> Iterator[float]:
        """The moments of its calls since it was last asked, oldest first."""
        while self._at < until and self._part < len(self._shares):
            ends = self._began + (self._part + 1) * self._seconds
            stop = min(until, ends)
            pace = self._shares[self._part] * limit_per_second
            while self._owed + (stop - self._at) * pace >= 1:
                self._at = min(stop, self._at + (1 - self._owed) / pace)
                self._owed = 0.0
                yield self._at
            self._owed += (stop - self._at) * pace
            self._at = stop
            self._part += stop == ends

    def shown(self, now: float) -> dict[str, Any]:
        """As it was set, and the share that it takes now."""
        part = int((now - self._began) // self._seconds)
        share = self._shares[part] if part < len(self._shares) else 0.0
        return {"shares": list(self._shares), "seconds": self._seconds, "share": share}


class Series:
    """Counts calls by the second since `now`; `limit_per_second` is what could have passed."""

    def __init__(self, now: float, limit_per_second: float) -> None:
        self._began = now
        self._counts: dict[str, Counter[int]] = {name: Counter() for name in COLUMNS}
        self._limits = [(0.0, limit_per_second)]

    def count(self, column: str, at: float) -> None:
        """One more call in this column."""
        self._counts[column][int(at - self._began)] += 1

    def set_rate(self, limit_per_second: float, now: float) -> None:
        """The limit from now on."""
        self._limits.append((now - self._began, limit_per_second))

    def shown(self, now: float) -> dict[str, Any]:
        """A list a column with an entry for each whole second that has passed, `first_second` first.

        `available` is what the limit let through without us, less what the neighbour took of it.
        """
        passed = int(now - self._began)
        seconds = range(max(0, passed - LONGEST_SECONDS), passed)
        columns: dict[str, Any] = {
            name: [counts[second] for second in seconds] for name, counts in self._counts.items()
        }
        taken = self._counts[NEIGHBOUR]
        available = [round(max(0.0, self._limit(second) - taken[second]), 6) for second in seconds]
        return {"first_second": seconds.start, **columns, "available": available}

    def _limit(self, second: int) -> float:
        """What could pass in this second, over which the limit may have changed."""
        total, until = 0.0, second + 1.0
        for since, per_second in reversed(self._limits):
            if until > second and since < until:
                total += (until - max(since, second)) * per_second
                until = max(since, float(second))
        return total
