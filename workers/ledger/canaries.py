"""The canary of a backfill: its first recordings, which go ahead, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, literal, select

from workers.ledger.statements import change
from workers.ledger.states import State
from workers.ledger.tables import RUNNING, backfills, canaries, recordings
from workers.model import Lane

#: The rest waits for it.
FLYING: Final = "flying"
PASSED: Final = "passed"
FAILED: Final = "failed"
#: Failed, and a person has the rest go on all the same.
OVERRULED: Final = "overruled"
#: What a backfill may be paused for by its canary.
CANARY: Final = "canary"

#: One in so many may fail.
ONE_IN: Final = 20
_WELL: Final = frozenset({State.COMPLETED, State.INDEXED, State.FORGOTTEN})
_BADLY: Final = frozenset({State.REJECTED, State.FAILED, State.PARKED, State.UNKNOWN})

_MEMBERS: Final = select(canaries.c.recording_id).where(canaries.c.backfill_id == bindparam("backfill"))
_PENDING: Final = (
    recordings.c.backfill_id == bindparam("backfill"),
    recordings.c.state == State.PENDING,
    recordings.c.id.not_in(_MEMBERS),
)
# A sum, like text that nothing is added to below, keeps SQLite from going through all that waits: it is to look the
# canary's recordings up by their ids.
_IS_STILL_OURS: Final = recordings.c.backfill_id + 0 == bindparam("backfill")
_TALLY: Final = (
    select(recordings.c.state, recordings.c.reason, func.count().label("number"))
    .join_from(canaries, recordings)
    .where(
        canaries.c.backfill_id == bindparam("backfill"),
        # What has stopped unpaid, or is another backfill's now, says nothing: others take its place.
        _IS_STILL_OURS,
        recordings.c.state != State.CANCELLED,
    )
    .group_by(recordings.c.state, recordings.c.reason)
)


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a canary of `size` recordings so far, by state and reason: `members` have been chosen yet.

    Completed ones went well, for what is left is ours to do; rejected, failed, parked and unknown ones did not.
    """

    size: int
    failed: Mapping[tuple[State, str | None], int]
    under_way: Mapping[State, int]
    well: int

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    @property
    def ended(self) -> int:
        return self.well + self.failures

    @property
    def members(self) -> int:
        return self.ended + sum(self.under_way.values())

    @property
    def is_over(self) -> bool:
        """Whether all of them have ended; a canary that is not complete is never over."""
        return self.members >= self.size and not self.under_way

    @property
    def is_good(self) -> bool:
        """Whether at most 5 % of them failed."""
        return self.failures * ONE_IN <= self.members


def tally(tx: Connection, backfill_id: int, size: int) -> Tally:
    """What became of the backfill's canary so far."""
    failed: dict[tuple[State, str | None], int] = {}
    under_way: dict[State, int] = {}
    well = 0
    for name, reason, number in tx.execute(_TALLY, {"backfill": backfill_id}):
        state = State(name)
        if state in _WELL:
            well += number
        elif state in _BADLY:
            failed[state, reason] = number
        else:
            under_way[state] = under_way.get(state, 0) + number
    return Tally(size, failed, under_way, well)


def enrol(tx: Connection, backfill_id: int, most: int) -> int:
    """Makes the next pending recordings of the backfill its canary's, in the order of their intake; gives how many.

    To be called with the backfill held against others.
    """
    mine: ColumnElement[Any] = literal(backfill_id)
    chosen = select(mine, recordings.c.id).where(*_PENDING).order_by(recordings.c.id).limit(most)
    into = insert(canaries).from_select(["backfill_id", "recording_id"], chosen)
    return tx.execute(into, {"backfill": backfill_id}).rowcount


def rest_waits(tx: Connection, backfill_id: int) -> bool:
    """Whether there is something to be handed out once the canary is over."""
    return tx.execute(select(recordings.c.id).where(*_PENDING).limit(1), {"backfill": backfill_id}).first() is not None


def ready(tx: Connection, backfill_id: int, lane: Lane, now: float) -> Sequence[int]:
    """The canary's recordings (ids) that are to be handed out now in the lane."""
    waiting = (recordings.c.state == State.PENDING, recordings.c.lane.concat("") == lane, recordings.c.due_at <= now)
    mine = (canaries.c.backfill_id == bindparam("backfill"), _IS_STILL_OURS)
    some = select(recordings.c.id).join_from(canaries, recordings).where(*mine, *waiting)
    return tx.execute(some.order_by(recordings.c.id), {"backfill": backfill_id}).scalars().all()


def has(tx: Connection, backfill_id: int, recording_id: int) -> bool:
    """Whether the recording belongs to the backfill's canary."""
    mine = select(canaries).where(canaries.c.backfill_id == backfill_id, canaries.c.recording_id == recording_id)
    return tx.execute(mine).first() is not None


def flying(tx: Connection) -> list[int]:
    """The running backfills (ids) whose canary is not over."""
    waiting = select(backfills.c.id).where(backfills.c.state == RUNNING, backfills.c.canary_state == FLYING)
    return list(tx.execute(waiting).scalars())


def decide(tx: Connection, backfill_id: int, verdict: str) -> None:
    """Writes down what came of the canary."""
    change(tx, backfills, {"id": backfill_id}, {"canary_state": verdict})
