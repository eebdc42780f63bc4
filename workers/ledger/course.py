"""A backfill's course: whether it runs, and how its recordings that are not paid for stop when it is cancelled."""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection, String, bindparam, case, delete, exists, func, insert, literal, select, update

from workers.ledger import submissions
from workers.ledger.recordings import ids_in
from workers.ledger.statements import among, insert_or_ignore, one_after_the_other
from workers.ledger.states import ACTIVE, TRANSITIONS, UNSUBMITTED, check_transition
from workers.ledger.tables import CANCELLED, PAUSED, RUNNING, backfills, duplicates, recordings, transitions
from workers.model import Reason, State

#: UNSUBMITTED in the order in which cancelling goes through it: workers may still have what is out, and give it back.
IN_TURN: Final = (State.VALIDATED, State.QUEUED, State.PENDING)

_PERHAPS_ACCEPTED: Final = (
    "Something may have been accepted for it before: an event that comes late completes it all the same."
)
_ACCEPTED: Final = "It was accepted before it was to be paid for again: its transcription is waited for."
# Held, so that a change of course and what depends on it come one after the other on several machines too.
_STATE: Final = (
    select(backfills.c.state).where(backfills.c.id == bindparam("id")).with_for_update(read=True, of=backfills)
)
_STATE_BEHIND: Final = (
    select(backfills.c.state)
    .join_from(recordings, backfills)
    .where(recordings.c.id == bindparam("id"))
    .with_for_update(read=True, of=backfills)
)


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of the recordings of one batch; `last` is the id to go on after, None when there are no more.

    Those that went `back` were accepted before they were to be paid for once more, and wait for that transcription.
    """

    cancelled: int = 0
    failed: int = 0
    back: int = 0
    handed_over: int = 0
    last: int | None = None

    @property
    def total(self) -> int:
        return self.cancelled + self.failed + self.back + self.handed_over


def state_of(tx: Connection, backfill_id: int) -> str:
    """Whether the backfill is running, paused or cancelled, which stays so until this write ends."""
    return str(tx.execute(_STATE, {"id": backfill_id}).scalar_one())


def state_behind(tx: Connection, recording_id: int) -> str:
    """As `state_of`, of the backfill that the recording belongs to now: it may have been handed over."""
    return str(tx.execute(_STATE_BEHIND, {"id": recording_id}).scalar_one())


def change_state(tx: Connection, backfill_id: int, before: Collection[str], after: str) -> bool:
    """Sets the backfill's course if it is one of `before`; False when it is not."""
    there = (backfills.c.id == backfill_id) & backfills.c.state.in_(before)
    return tx.execute(update(backfills).where(there).values(state=after)).rowcount == 1


def counts(tx: Connection, backfill_id: int) -> Counter[State]:
    """How many recordings the backfill has in each state."""
    counted = select(recordings.c.state, func.count().label("number")).where(recordings.c.backfill_id == backfill_id)
    return Counter({State(row.state): row.number for row in tx.execute(counted.group_by(recordings.c.state))})


def unfinished(tx: Connection) -> Sequence[int]:
    """The cancelled backfills of which recordings have not stopped yet."""
    left = exists().where(recordings.c.backfill_id == backfills.c.id, recordings.c.state.in_(UNSUBMITTED))
    return tx.execute(select(backfills.c.id).where(backfills.c.state == CANCELLED, left)).scalars().all()


def is_unfinished(tx: Connection, backfill_id: int, *, but: int | None = None) -> bool:
    """Whether the backfill has recordings that stop when it is cancelled, beside the one (id) in `but`."""
    left = select(recordings.c.id).where(
        recordings.c.backfill_id == backfill_id, recordings.c.state.in_(UNSUBMITTED), recordings.c.id != (but or 0)
    )
    return tx.execute(left.limit(1)).first() is not None


def wake_validated(tx: Connection, backfill_id: int) -> None:
    """Makes the recordings due that waited, validated, while their backfill was paused."""
    waiting = (recordings.c.backfill_id == backfill_id) & (recordings.c.state == State.VALIDATED)
    paused = recordings.c.reason == Reason.PAUSED
    tx.execute(update(recordings).where(waiting, paused).values(due_at=time.time(), reason=None))


def cancel_some(tx: Connection, backfill_id: int, state: State, *, after_id: int, most: int, by: str) -> Batch:
    """Stops the next recordings (at most `most`) of a cancelled backfill in a state of UNSUBMITTED.

    One that another backfill asked for too becomes that one's, as it is, and counts as a duplicate here. One that was
    accepted before, and was to be paid for again, goes back to that transcription; one of which nobody knows whether
    it was fails: `cancelled` says that nothing was paid. Nothing stops when the backfill is not cancelled any more.
    Messages of what stopped do nothing then.
    """
    # An intake that notes one of these as its own duplicate must not do so while it stops.
    one_after_the_other(tx, "intake")
    if state_of(tx, backfill_id) != CANCELLED:
        return Batch()
    found = ids_in(tx, backfill_id, state, after_id=after_id, most=most, hold=True)
    if not found:
        return Batch()
    wanted = _wanted_elsewhere(tx, backfill_id, found)
    _hand_over(tx, backfill_id, state, wanted, by=by)
    paid = submissions.perhaps_accepted_among(tx, found) - wanted.keys()
    unpaid = [one for one in found if one not in wanted and one not in paid]
    known = submissions.standing_ids(tx, paid) if paid else {}
    _stop(tx, unpaid, state, State.CANCELLED, by=by)
    _stop(tx, sorted(paid - known.keys()), state, State.FAILED, by=by, detail=_PERHAPS_ACCEPTED)
    _stop(tx, sorted(known), state, State.TRANSCRIBING, by=by, detail=_ACCEPTED)
    _wait_for(tx, known)
    return Batch(
        len(unpaid), len(paid) - len(known), len(known), len(wanted), found[-1] if len(found) == most else None
    )


def _wanted_elsewhere(tx: Connection, backfill_id: int, recording_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Which of the recordings another backfill wants, with that one's id and entry: a running one, else a paused one.

    Those backfills are not cancelled before the transaction ends.
    """
    running_first = case((backfills.c.state == RUNNING, 0), else_=1)
    asking = (
        select(duplicates)
        .join_from(duplicates, backfills)
        .where(
            among(tx, duplicates.c.recording_id, recording_ids),
            duplicates.c.backfill_id != backfill_id,
            backfills.c.state.in_((RUNNING, PAUSED)),
        )
        .order_by(running_first, duplicates.c.backfill_id, duplicates.c.entry)
        .with_for_update(read=True, of=backfills)
    )
    wanted: dict[int, tuple[int, int]] = {}
    for row in tx.execute(asking):
        wanted.setdefault(row.recording_id, (row.backfill_id, row.entry))
    return wanted


def _hand_over(
    tx: Connection, backfill_id: int, state: State, wanted: Mapping[int, tuple[int, int]], *, by: str
) -> None:
    """Makes recordings those of the backfills that want them: what was their duplicate there is one here then."""
    if not wanted:
        return
    here = select(recordings.c.id, recordings.c.entry).where(among(tx, recordings.c.id, wanted))
    entries = {row.id: row.entry for row in tx.execute(here)}
    theirs = update(recordings).where(recordings.c.id == bindparam("of"))
    tx.execute(
        theirs.values(backfill_id=bindparam("to"), entry=bindparam("at")),
        [{"of": one, "to": to, "at": at} for one, (to, at) in wanted.items()],
    )
    tx.execute(
        delete(duplicates).where(duplicates.c.backfill_id == bindparam("to"), duplicates.c.entry == bindparam("at")),
        [{"to": to, "at": at} for to, at in wanted.values()],
    )
    ours = [{"backfill_id": backfill_id, "entry": entries[one], "recording_id": one} for one in wanted]
    insert_or_ignore(tx, duplicates, ours)
    row = {"at": time.time(), "from_state": state, "to_state": state, "by": by, "reason": Reason.HANDED_OVER}
    tx.execute(insert(transitions), [{**row, "recording_id": one} for one in wanted])


def _wait_for(tx: Connection, transcription_ids: Mapping[int, str]) -> None:
    """Notes which transcription each of the recordings (ids) waits for, to be looked up from the beginning."""
    if transcription_ids:
        theirs = update(recordings).where(recordings.c.id == bindparam("of"))
        values = [{"of": one, "as": transcription_id} for one, transcription_id in transcription_ids.items()]
        tx.execute(theirs.values(transcription_id=bindparam("as"), polls=0), values)


def _stop(
    tx: Connection, recording_ids: Sequence[int], state: State, to: State, *, by: str, detail: str | None = None
) -> None:
    if not recording_ids:
        return
    now = time.time()
    these = among(tx, recordings.c.id, recording_ids)
    due_at = now if to in ACTIVE else None
    ended: dict[str, Any] = {"state": to, "reason": Reason.CANCELLED, "detail": detail, "due_at": due_at}
    counters = {"attempts": 0, "resends": 0, "repeats": None, "epoch": recordings.c.epoch + 1}
    tx.execute(update(recordings).where(these).values(**ended, **counters, changed_at=now))
    way = [state, to] if to in TRANSITIONS[state] else [state, State.QUEUED, to]
    for before, after in pairwise(way):
        check_transition(before, after)
        told = {"at": now, "from_state": before, "to_state": after, "by": by, "reason": Reason.CANCELLED}
        columns = ["recording_id", *told, "detail"]
        history = select(recordings.c.id, *map(literal, told.values()), literal(detail, String)).where(these)
        tx.execute(insert(transitions).from_select(columns, history))
