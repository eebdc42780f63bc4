"""Counts what became of everything that a backfill asked for, from indexes alone: quick for millions of recordings."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, case, func, select

from workers.ledger.states import UNSUBMITTED, WITH_REASONS
from workers.ledger.tables import (
    IS_ACCEPTED,
    IS_WITH_REASON,
    PAUSED,
    RUNNING,
    backfills,
    double_acceptances,
    duplicates,
    in_state_with_reason,
    intake_rejects,
    recordings,
)
from workers.model import Reason, State

#: How many recordings are shown as examples of a reason.
EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Funnel:
    """What became of everything that a backfill asked for: requested = sum of states + duplicates + intake_rejects.

    `shared_by_state` counts the recordings behind the duplicates that belong to other backfills, `shared_paused` those
    of them that are not submitted because theirs is paused; `empty` the indexed ones without a word; `reasons` has, for
    each state in WITH_REASONS that there is, a count for each of its reason codes, None for recordings without one.
    `accepted_twice` counts recordings that were paid for more than once, `unknown_decided_at` (Unix seconds) is when
    the policy decides about the first of those whose outcome is unknown, None without any.
    """

    states: Mapping[str, int]
    duplicates: int
    duplicates_by_state: Mapping[str, int]
    shared_by_state: Mapping[str, int]
    shared_paused: int
    intake_rejects: int
    reasons: Mapping[str, Mapping[str | None, int]]
    empty: int
    accepted_twice: int
    unknown_decided_at: float | None

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def requested(self) -> int:
        return self.total + self.duplicates + self.intake_rejects


@dataclass(frozen=True, slots=True)
class Speed:
    """How many recordings were accepted, and when the first and the last of them were submitted (Unix seconds)."""

    accepted: int
    first_at: float | None
    last_at: float | None

    @property
    def per_second(self) -> float | None:
        """From first to last, None of fewer than two."""
        if self.first_at is None or self.last_at is None or self.last_at <= self.first_at:
            return None
        return (self.accepted - 1) / (self.last_at - self.first_at)


_MINE: Final = recordings.c.backfill_id == bindparam("backfill_id")
_STATES: Final = select(recordings.c.state, func.count().label("number")).where(_MINE).group_by(recordings.c.state)
_REASONS: Final = (
    select(recordings.c.state, recordings.c.reason, func.count().label("number"))
    .where(_MINE, IS_WITH_REASON)
    .group_by(recordings.c.state, recordings.c.reason)
)
_REJECTS: Final = (
    select(func.count()).select_from(intake_rejects).where(intake_rejects.c.backfill_id == bindparam("backfill_id"))
)
_ACCEPTED: Final = select(func.count()).where(_MINE, IS_ACCEPTED)
# One aggregate a statement: SQLite looks a minimum up in an index only if nothing else is asked for.
_FIRST: Final = select(func.min(recordings.c.submitted_at)).where(_MINE, IS_ACCEPTED)
_LAST: Final = select(func.max(recordings.c.submitted_at)).where(_MINE, IS_ACCEPTED)


def funnel(tx: Connection, backfill_id: int) -> Funnel:
    """Counts everything that the backfill asked for."""
    mine = {"backfill_id": backfill_id}
    states: dict[str, int] = {row.state: row.number for row in tx.execute(_STATES, mine)}
    reasons: dict[str, dict[str | None, int]] = {}
    empty = 0
    for state, reason, number in tx.execute(_REASONS, mine):
        if state in WITH_REASONS:
            reasons.setdefault(state, {})[reason] = number
        if reason == Reason.EMPTY:
            empty += number
    by_state, shared = _duplicates(tx, backfill_id)
    return Funnel(
        states=states,
        duplicates=sum(by_state.values()),
        duplicates_by_state=by_state,
        shared_by_state=shared,
        shared_paused=_shared_paused(tx, backfill_id) if shared else 0,
        intake_rejects=int(tx.execute(_REJECTS, mine).scalar_one()),
        reasons=reasons,
        empty=empty,
        accepted_twice=_accepted_twice(tx, backfill_id),
        unknown_decided_at=_unknown_decided_at(tx, backfill_id) if states.get(State.UNKNOWN) else None,
    )


def speed(tx: Connection, backfill_id: int) -> Speed:
    """How fast the backfill's recordings were accepted."""
    mine = {"backfill_id": backfill_id}
    accepted, first, last = (tx.execute(one, mine).scalar_one() for one in (_ACCEPTED, _FIRST, _LAST))
    return Speed(accepted, first, last)


def examples(tx: Connection, backfill_id: int, state: State, reason: str | None) -> dict[int, str]:
    """The media ids, by recording id, of the oldest EXAMPLES recordings in that state (of WITH_REASONS), for why."""
    wanted = _examples(state, tx.dialect.name, with_reason=reason is not None)
    return {row.id: row.media_id for row in tx.execute(wanted, {"backfill_id": backfill_id, "reason": reason})}


def running_with(tx: Connection, states: Collection[State]) -> dict[int, int]:
    """How many recordings are in these states, for each running backfill (id) that has any."""
    # With the ids themselves SQLite looks up what waits; joined, it would go through all recordings.
    running = tx.execute(select(backfills.c.id).where(backfills.c.state == RUNNING)).scalars().all()
    counted = (
        select(recordings.c.backfill_id, func.count().label("number"))
        .where(recordings.c.backfill_id.in_(running), recordings.c.state.in_(list(states)))
        .group_by(recordings.c.backfill_id)
    )
    return {row.backfill_id: row.number for row in tx.execute(counted)}


@lru_cache(maxsize=32)
def _examples(state: State, dialect: str, *, with_reason: bool) -> Select[Any]:
    reason = recordings.c.reason == bindparam("reason") if with_reason else recordings.c.reason.is_(None)
    some = select(recordings.c.id, recordings.c.media_id).where(_MINE, in_state_with_reason(state, dialect), reason)
    return some.order_by(recordings.c.id).limit(EXAMPLES)


def _accepted_twice(tx: Connection, backfill_id: int) -> int:
    twice = recordings.c.id.in_(select(double_acceptances.c.recording_id))
    # The sum keeps SQLite from going through the whole backfill: there are few double acceptances, if any.
    counted = select(func.count()).where(twice, recordings.c.backfill_id + 0 == backfill_id)
    return int(tx.execute(counted).scalar_one())


def _unknown_decided_at(tx: Connection, backfill_id: int) -> float | None:
    unknown = (recordings.c.backfill_id == backfill_id, recordings.c.state == State.UNKNOWN)
    first: float | None = tx.execute(select(func.min(recordings.c.due_at)).where(*unknown)).scalar_one()
    return first


def _duplicates(tx: Connection, backfill_id: int) -> tuple[dict[str, int], dict[str, int]]:
    # A second key to group by would take twice as long.
    elsewhere = func.sum(case((recordings.c.backfill_id != backfill_id, 1), else_=0))
    counted = (
        select(recordings.c.state, func.count().label("number"), elsewhere.label("elsewhere"))
        .join_from(duplicates, recordings)
        .where(duplicates.c.backfill_id == backfill_id)
        .group_by(recordings.c.state)
    )
    found = tx.execute(counted).all()
    return {row.state: row.number for row in found}, {row.state: row.elsewhere for row in found if row.elsewhere}


def _shared_paused(tx: Connection, backfill_id: int) -> int:
    paused = select(backfills.c.id).where(backfills.c.state == PAUSED, backfills.c.id != backfill_id)
    theirs = tx.execute(paused).scalars().all()
    if not theirs:
        return 0
    mine = select(func.count()).select_from(duplicates.join(recordings)).where(duplicates.c.backfill_id == backfill_id)
    held = mine.where(recordings.c.backfill_id.in_(theirs), recordings.c.state.in_(UNSUBMITTED))
    return int(tx.execute(held).scalar_one())
