"""Goes through the recordings in the order of their refs, as the search index has its documents."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, literal_column, select

from workers.ledger.recordings import from_row, query
from workers.ledger.tables import recordings
from workers.model import Recording, State

# A literal, and the order that of an index: no state has an index of its own that the database would rather sort.
_INDEXED = (
    select(recordings.c.ref, recordings.c.epoch)
    .where(recordings.c.ref > bindparam("after"), recordings.c.state == literal_column(repr(str(State.INDEXED))))
    .order_by(recordings.c.ref)
    .limit(bindparam("most"))
)
_BY_REFS = query().where(recordings.c.ref.in_(bindparam("refs", expanding=True)))


def indexed(tx: Connection, *, after_ref: str | None, most: int) -> dict[str, int]:
    """Ref and epoch of the next indexed recordings in the order of their refs; None begins with the first."""
    rows = tx.execute(_INDEXED, {"after": after_ref or "", "most": most})
    return {row.ref: row.epoch for row in rows}


def by_refs(tx: Connection, refs: Sequence[str]) -> list[Recording]:
    """Those of the refs (at most 500) that are recordings."""
    return [from_row(row) for row in tx.execute(_BY_REFS, {"refs": list(refs)}).mappings()]
