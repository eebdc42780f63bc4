"""What the ledger says of entries before they are taken in: for intake, and for a plan that only looks."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from workers.ledger import bulk, submissions
from workers.ledger.tables import duplicates
from workers.model import State

#: Asked for again, these begin anew, unless something was accepted for them before.
_BEGIN_ANEW: Final = (State.CANCELLED, State.REJECTED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Foresight:
    """What is known of a batch's requests, by fingerprint, which of its entries this backfill has as duplicates, and
    which recordings (ids) begin anew when another backfill asks for them.
    """

    known: Mapping[bytes, bulk.Known]
    noted: Set[int]
    unpaid: Set[int]


def foresee(
    tx: Connection, backfill_id: int | None, fingerprints: Sequence[bytes], entries: Sequence[int]
) -> Foresight:
    """What intake would find out about these entries of a backfill, None for one that is still to be made."""
    known = bulk.known(tx, list(dict.fromkeys(fingerprints)))
    seen = set() if backfill_id is None else noted(tx, backfill_id, entries)
    return Foresight(known, seen, unpaid(tx, known.values()))


def asked_there(row: bulk.Known, backfill_id: int | None, entry: int) -> bool:
    """Whether the recording is what this very entry asked for before."""
    return row.backfill_id == backfill_id and row.entry == entry


def noted(tx: Connection, backfill_id: int, entries: Sequence[int]) -> set[int]:
    """Those of the entries that the backfill has as duplicates already."""
    mine = duplicates.c.backfill_id == backfill_id
    return set(tx.execute(select(duplicates.c.entry).where(mine, duplicates.c.entry.in_(entries))).scalars())


def unpaid(tx: Connection, rows: Iterable[bulk.Known]) -> set[int]:
    """Those of the recordings (ids) that ended and for which nothing can have been accepted."""
    ended = [row.id for row in rows if row.state in _BEGIN_ANEW and row.accepted_at is None]
    return set(ended) - submissions.perhaps_accepted_among(tx, ended) if ended else set()
