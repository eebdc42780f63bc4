"""Figures about everything that is not at its end, over all backfills: for an operator's eye, not for a decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, case, func, literal_column, select

from workers.ledger.states import ACTIVE, NEEDS_PERSON
from workers.ledger.tables import IS_NEW, IS_SWEPT, backfills, canaries, double_acceptances, events, recordings
from workers.model import State

#: Something is still to be done with a recording in one of these, by us or by a person.
OPEN: Final = ACTIVE | NEEDS_PERSON

# When a recording came into its state; of a parked one no column of its own tells.
_SINCE: Final = {
    State.QUEUED: recordings.c.queued_at,
    State.VALIDATED: recordings.c.validated_at,
    State.SUBMITTING: recordings.c.submitted_at,
    State.UNKNOWN: recordings.c.submitted_at,
    State.TRANSCRIBING: recordings.c.accepted_at,
    State.COMPLETED: recordings.c.completed_at,
}


@dataclass(frozen=True, slots=True)
class OpenBackfill:
    """A backfill that has recordings in OPEN: how many of its own are in each state, the ended ones included."""

    id: int
    name: str
    state: str
    canary_state: str | None
    counts: Mapping[State, int]


_IS_OPEN: Final = recordings.c.state.in_([literal_column(repr(str(state))) for state in sorted(OPEN)])
_BACKFILLS: Final = (
    select(backfills.c.id, backfills.c.name, backfills.c.state, backfills.c.canary_state)
    .where(select(recordings.c.id).where(recordings.c.backfill_id == backfills.c.id, _IS_OPEN).exists())
    .order_by(backfills.c.id)
)
# With the ids themselves SQLite looks up what there is of each; joined, it would go through all recordings.
_IN_THOSE: Final = recordings.c.backfill_id.in_(bindparam("ids", expanding=True))
_COUNTS: Final = (
    select(recordings.c.backfill_id, recordings.c.state, func.count().label("number"))
    .where(_IN_THOSE)
    .group_by(recordings.c.backfill_id, recordings.c.state)
)
_FIRST_PENDING: Final = (
    select(func.min(recordings.c.id))
    .where(_IN_THOSE, recordings.c.state == literal_column("'pending'"))
    .group_by(recordings.c.backfill_id)
)
_ASKED_AT: Final = select(func.min(recordings.c.created_at)).where(
    recordings.c.id.in_(bindparam("recording_ids", expanding=True))
)
_SWEPT_SINCE: Final = (
    select(
        recordings.c.state,
        func.min(func.coalesce(case(_SINCE, value=recordings.c.state), recordings.c.changed_at)).label("since"),
    )
    .where(IS_SWEPT)
    .group_by(recordings.c.state)
)
_PARKED_SINCE: Final = select(func.min(recordings.c.changed_at)).where(
    _IN_THOSE, recordings.c.state == literal_column("'parked'")
)
_FIRST_EVENT: Final = select(events.c.received_at).where(IS_NEW).order_by(events.c.id).limit(1)
_CANARIES: Final = (
    select(canaries.c.backfill_id, recordings.c.state, func.count().label("number"))
    .join_from(canaries, recordings)
    .where(canaries.c.backfill_id.in_(bindparam("ids", expanding=True)))
    .group_by(canaries.c.backfill_id, recordings.c.state)
)


def open_backfills(tx: Connection) -> list[OpenBackfill]:
    """The backfills that are not finished, oldest first; a million recordings of theirs take 0.1 s on SQLite."""
    found = tx.execute(_BACKFILLS).mappings().all()
    counts = _by_backfill(tx, _COUNTS, [row["id"] for row in found])
    return [OpenBackfill(**row, counts=counts.get(row["id"], {})) for row in found]


def canary_counts(tx: Connection, backfill_ids: Sequence[int]) -> dict[int, dict[State, int]]:
    """How many of the canaries' recordings are in each state, by backfill (id)."""
    return _by_backfill(tx, _CANARIES, backfill_ids)


def oldest(tx: Connection, backfill_ids: Sequence[int]) -> dict[State, float]:
    """Since when (Unix seconds) the oldest recording has been in each state of OPEN that there is one in.

    `backfill_ids` are those of `open_backfills`. A pending one counts from when it was asked for.
    """
    if not backfill_ids:
        return {}
    mine = {"ids": list(backfill_ids)}
    found: dict[State, float | None] = {State(row.state): row.since for row in tx.execute(_SWEPT_SINCE)}
    first = tx.execute(_FIRST_PENDING, mine).scalars().all()
    # The one asked for first has the lowest id; there is no index by time, and there may be millions.
    found[State.PENDING] = tx.execute(_ASKED_AT, {"recording_ids": first}).scalar() if first else None
    found[State.PARKED] = tx.execute(_PARKED_SINCE, mine).scalar()
    return {state: since for state, since in found.items() if since is not None}


def oldest_event(tx: Connection) -> float | None:
    """When the oldest event came that nobody has applied yet (Unix seconds), None without any."""
    return tx.execute(_FIRST_EVENT).scalar()


def accepted_twice(tx: Connection) -> int:
    """How many acceptances there are beside the wanted ones."""
    return int(tx.execute(select(func.count()).select_from(double_acceptances)).scalar_one())


def _by_backfill(tx: Connection, query: Select[Any], ids: Sequence[int]) -> dict[int, dict[State, int]]:
    counts: dict[int, dict[State, int]] = {}
    for row in tx.execute(query, {"ids": list(ids)}) if ids else ():
        counts.setdefault(row.backfill_id, {})[State(row.state)] = row.number
    return counts
