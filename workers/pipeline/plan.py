"""What sending a list would come to, without sending it: what is new in it, how long it takes, what it costs."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from workers.intake.entries import Defaults
from workers.intake.manifest import Row
from workers.intake.seen import Seen
from workers.intake.unusable import Unusable
from workers.ledger import backfills
from workers.ledger.backfills import Asked, Backfill
from workers.ledger.engine import Ledger
from workers.ledger.foresight import Foresight, asked_there, foresee
from workers.model import State

#: Lines that are looked up in one look at the ledger.
BATCH: Final = 2000
_NOTHING_KNOWN: Final = Foresight({}, frozenset(), frozenset())


class Sample:
    """A random choice of at most `size` of the media ids that it is shown, each with the same chance."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._shown = 0
        self._chosen: list[str] = []

    def show(self, media_id: str) -> None:
        self._shown += 1
        if len(self._chosen) < self._size:
            self._chosen.append(media_id)
        elif self._size and (place := random.randrange(self._shown)) < self._size:  # noqa: S311 no secret
            self._chosen[place] = media_id

    def chosen(self) -> list[str]:
        """In random order, so that the first of them are a random choice too."""
        return random.sample(self._chosen, len(self._chosen))


@dataclass(slots=True)
class Found:
    """What becomes of a list's entries, counted as `run` counts them.

    `begin_anew` of the new ones ended unpaid in another backfill. Duplicates ask for what another line of the list or
    (`duplicates`, by the state it is in) somebody before asks for; `repeated` ones this backfill has from an earlier
    run of the same list.
    """

    new: int = 0
    begin_anew: int = 0
    duplicates_in_list: int = 0
    duplicates: Counter[State] = field(default_factory=Counter)
    repeated: Counter[State] = field(default_factory=Counter)
    unusable: Unusable = field(default_factory=Unusable)

    @property
    def entries(self) -> int:
        usable = self.new + self.duplicates_in_list + self.duplicates.total() + self.repeated.total()
        return usable + self.unusable.number


def target(ledger: Ledger | None, name: str, defaults: Defaults) -> Backfill | None:
    """The backfill that would take the list in, None when it is still to be made.

    Raises InputError where `run` would: it exists with other options, or was cancelled.
    """
    if ledger is None:
        return None
    with ledger.read() as tx:
        backfill = backfills.by_name(tx, name)
    if backfill is not None:
        backfills.check(backfill, defaults.as_options())
    return backfill


def look_through(
    ledger: Ledger | None, backfill: Backfill | None, rows: Iterable[Row], sample: Sample
) -> Iterator[Found]:
    """Counts what becomes of the rows, telling after each batch how far it is; writes nothing.

    Shows the sample what is new. Memory stays the same however many rows there are.
    """
    found, lines = Found(), iter(rows)
    with Seen() as seen:
        while batch := list(islice(lines, BATCH)):
            asked = [Asked(row.line, row.request) for row in batch if row.request is not None]
            for row in batch:
                if row.request is None:
                    found.unusable.add(row.line, row.reason or "")
            _judge(found, backfill, asked, _foresight(ledger, backfill, asked), seen, sample)
            yield found


def _foresight(ledger: Ledger | None, backfill: Backfill | None, asked: list[Asked]) -> Foresight:
    if ledger is None or not asked:
        return _NOTHING_KNOWN
    with ledger.read() as tx:
        fingerprints, entries = [one.fingerprint for one in asked], [one.entry for one in asked]
        return foresee(tx, backfill.id if backfill else None, fingerprints, entries)


def _judge(
    found: Found, backfill: Backfill | None, asked: list[Asked], there: Foresight, seen: Seen, sample: Sample
) -> None:
    """Decides about each entry as `backfills.add` would, and keeps in mind what the list asks for."""
    own = backfill.id if backfill else None
    before = seen.among([one.fingerprint for one in asked])
    fresh: dict[bytes, None] = {}
    for one in asked:
        row = there.known.get(one.fingerprint)
        if one.fingerprint in before or one.fingerprint in fresh:
            if one.entry in there.noted:
                found.repeated[State(row.state) if row else State.PENDING] += 1
            else:
                found.duplicates_in_list += 1
            continue
        if row is not None and (asked_there(row, own, one.entry) or one.entry in there.noted):
            found.repeated[State(row.state)] += 1
        elif row is not None and (row.backfill_id == own or row.id not in there.unpaid):
            found.duplicates[State(row.state)] += 1
        else:
            fresh[one.fingerprint] = None
            found.new += 1
            found.begin_anew += row is not None
            sample.show(one.request.media_id)
    seen.add(list(fresh))
