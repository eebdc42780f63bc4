"""Stores a list's entries batch by batch, reading the next batch while the ledger writes the one before."""

import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

from workers.ledger import backfills
from workers.ledger.backfills import Asked, Backfill, Refused
from workers.ledger.engine import Ledger
from workers.model import Lane

SMALLEST: Final = 100
FIRST: Final = 500
LARGEST: Final = 2000
#: Half of what a transaction may last, so that others' never wait for long.
TRANSACTION_SECONDS: Final = 0.025
#: About 200 MB of SQLite's log: the longer it is, the more of its pages were changed several times and are copied once.
CHECKPOINT_AFTER: Final = 20_000


@dataclass(slots=True)
class Taken:
    """What became of the entries so far; `repeated` ones were taken in by an earlier run of the same list."""

    accepted: int = 0
    duplicates: int = 0
    repeated: int = 0
    rejected: int = 0


class Batches:
    """Takes entries into one backfill, as many a transaction as the ledger manages in 25 ms."""

    def __init__(self, ledger: Ledger, backfill: Backfill, lane: Lane, *, by: str) -> None:
        self._ledger = ledger
        self._backfill = backfill
        self._lane = lane
        self._by = by
        self._size = FIRST
        self._written = 0
        self.taken = Taken()

    def take(self, entries: Iterator[Asked | Refused]) -> Generator[Taken]:
        """Stores them in order, and tells after each batch how far it is; what was stored before an error stays."""
        # The database works outside of Python's lock, so that reading and writing go on side by side.
        with ThreadPoolExecutor(1, "intake") as writer:
            under_way: Future[Taken] | None = None
            while batch := list(islice(entries, self._size)):
                if under_way is not None:
                    yield under_way.result()
                under_way = writer.submit(self._store, batch)
            if under_way is not None:
                yield under_way.result()
        if self._written > LARGEST:
            # Else the next small transaction of somebody else would do it, while all others wait.
            self._ledger.checkpoint()

    def _store(self, batch: list[Asked | Refused]) -> Taken:
        asked = [one for one in batch if isinstance(one, Asked)]
        refused = [one for one in batch if isinstance(one, Refused)]
        with self._ledger.write_many() as tx:
            began = time.perf_counter()
            result = backfills.add(tx, self._backfill, self._lane, asked, by=self._by)
            backfills.refuse(tx, self._backfill, refused)
        self._pace(len(batch), time.perf_counter() - began)
        self._written += len(batch)
        if self._written >= CHECKPOINT_AFTER:
            self._ledger.checkpoint()
            self._written = 0
        self.taken.accepted += result.accepted
        self.taken.duplicates += result.duplicates
        self.taken.repeated += result.repeated
        self.taken.rejected += len(refused)
        return self.taken

    def _pace(self, entries: int, seconds: float) -> None:
        """Has the next batch take as long as it should, going by the last one and halfway by those before."""
        wanted = entries * TRANSACTION_SECONDS / max(seconds, 1e-6)
        self._size = max(SMALLEST, min(LARGEST, round((self._size + wanted) / 2)))
