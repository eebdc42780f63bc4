"""Counts what became of everything that a backfill asked for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from workers.ledger.states import UNSUBMITTED
from workers.ledger.tables import PAUSED, backfills, double_acceptances, duplicates, intake_rejects, recordings
from workers.model import Reason, State

_WITH_REASONS: Final = (State.REJECTED, State.FAILED, State.PARKED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Funnel:
    """What became of everything that a backfill asked for: requested = sum of states + duplicates + intake_rejects.

    `shared_by_state` counts the recordings behind the duplicates that belong to other backfills, `shared_paused` those
    of them that are not submitted because theirs is paused; `empty` the indexed ones without a word; `reasons` has a
    count for each state that ended badly and each of its reason codes. `accepted_twice` counts recordings that were
    paid for more than once, `unknown_decided_at` (Unix seconds) is when the policy decides about the first of those
    whose outcome is unknown, None without any.
    """

    states: Mapping[str, int]
    duplicates: int
    duplicates_by_state: Mapping[str, int]
    shared_by_state: Mapping[str, int]
    shared_paused: int
    intake_rejects: int
    reasons: Mapping[str, Mapping[str, int]]
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


def funnel(tx: Connection, backfill_id: int) -> Funnel:
    """Counts everything that the backfill asked for."""
    counted = select(recordings.c.state, recordings.c.reason, func.count().label("number")).where(
        recordings.c.backfill_id == backfill_id
    )
    states: dict[str, int] = {}
    reasons: dict[str, dict[str, int]] = {}
    empty = 0
    for state, reason, number in tx.execute(counted.group_by(recordings.c.state, recordings.c.reason)):
        states[state] = states.get(state, 0) + number
        if reason and state in _WITH_REASONS:
            reasons.setdefault(state, {})[reason] = number
        if reason == Reason.EMPTY:
            empty += number
    rejects = select(func.count()).select_from(intake_rejects).where(intake_rejects.c.backfill_id == backfill_id)
    by_state, shared, paused = _duplicates(tx, backfill_id)
    return Funnel(
        states=states,
        duplicates=sum(by_state.values()),
        duplicates_by_state=by_state,
        shared_by_state=shared,
        shared_paused=paused,
        intake_rejects=int(tx.execute(rejects).scalar_one()),
        reasons=reasons,
        empty=empty,
        accepted_twice=_accepted_twice(tx, backfill_id),
        unknown_decided_at=_unknown_decided_at(tx, backfill_id) if states.get(State.UNKNOWN) else None,
    )


def speed(tx: Connection, backfill_id: int) -> Speed:
    """How fast the backfill's recordings were accepted."""
    figures = select(
        func.count(recordings.c.submitted_at), func.min(recordings.c.submitted_at), func.max(recordings.c.submitted_at)
    )
    mine = figures.where(recordings.c.backfill_id == backfill_id, recordings.c.accepted_at.is_not(None))
    return Speed(*tx.execute(mine).one())


def _accepted_twice(tx: Connection, backfill_id: int) -> int:
    twice = recordings.c.id.in_(select(double_acceptances.c.recording_id))
    # The sum keeps SQLite from going through the whole backfill: there are few double acceptances, if any.
    counted = select(func.count()).where(twice, recordings.c.backfill_id + 0 == backfill_id)
    return int(tx.execute(counted).scalar_one())


def _unknown_decided_at(tx: Connection, backfill_id: int) -> float | None:
    unknown = (recordings.c.backfill_id == backfill_id, recordings.c.state == State.UNKNOWN)
    first: float | None = tx.execute(select(func.min(recordings.c.due_at)).where(*unknown)).scalar_one()
    return first


def _duplicates(tx: Connection, backfill_id: int) -> tuple[dict[str, int], dict[str, int], int]:
    owner = recordings.c.backfill_id.label("owner")
    counted = (
        select(recordings.c.state, owner, func.count().label("number"))
        .join_from(duplicates, recordings)
        .where(duplicates.c.backfill_id == backfill_id)
        .group_by(recordings.c.state, owner)
    )
    paused = set(tx.execute(select(backfills.c.id).where(backfills.c.state == PAUSED)).scalars())
    by_state: Counter[str] = Counter()
    shared: Counter[str] = Counter()
    held = 0
    for state, owner_id, number in tx.execute(counted):
        by_state[state] += number
        if owner_id != backfill_id:
            shared[state] += number
            held += number if owner_id in paused and state in UNSUBMITTED else 0
    return dict(by_state), dict(shared), held
