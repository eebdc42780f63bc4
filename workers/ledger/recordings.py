"""Reads recordings and moves them from state to state, with history, inside the caller's transaction."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, insert, select, update
from sqlalchemy.engine import RowMapping

from workers.ledger.statements import change
from workers.ledger.states import ACTIVE, check_transition
from workers.ledger.tables import IS_OUT, IS_SWEPT, RUNNING, backfills, recordings, transitions
from workers.model import Lane, Reason, Recording, State, TranscriptionRequest

#: The column that remembers when a state was reached.
_REACHED_AT: Final = {
    State.QUEUED: "queued_at",
    State.VALIDATED: "validated_at",
    State.SUBMITTING: "submitted_at",
    State.TRANSCRIBING: "accepted_at",
    State.COMPLETED: "completed_at",
    State.INDEXED: "indexed_at",
}

#: A recording goes to and fro between these until its submission is answered.
_BEFORE_THE_ANSWER: Final = frozenset({State.VALIDATED, State.SUBMITTING})

_FIELDS: Final = frozenset(field.name for field in fields(Recording))
_COLUMNS: Final = (
    *recordings.c,
    backfills.c.name.label("backfill"),
    backfills.c.state.label("backfill_state"),
    backfills.c.only_between,
)


def query() -> Select[Any]:
    """All recordings, to be narrowed by the caller; rows become values by `from_row`."""
    return select(*_COLUMNS).join_from(recordings, backfills)


_GET: Final = query().where(recordings.c.id == bindparam("id"))
_LOCK: Final = _GET.with_for_update(of=recordings, key_share=True)
_IS_DUE: Final = IS_SWEPT & (recordings.c.state == bindparam("state")) & (recordings.c.due_at <= bindparam("now"))
_DUE: Final = query().where(_IS_DUE).order_by(recordings.c.due_at).limit(bindparam("most"))
_ANY_DUE: Final = select(recordings.c.id).where(_IS_DUE).limit(1)
_NOTE: Final = insert(transitions)


def from_row(row: RowMapping) -> Recording:
    return Recording(
        id=row["id"],
        ref=row["ref"],
        request=TranscriptionRequest(
            media_id=row["media_id"],
            languages=tuple(row["languages"].split(",")),
            redaction_policy_id=row["redaction_policy_id"],
            speaker_identification=bool(row["speaker_identification"]),
        ),
        backfill_id=row["backfill_id"],
        backfill=row["backfill"],
        backfill_state=row["backfill_state"],
        lane=Lane(row["lane"]),
        state=State(row["state"]),
        epoch=row["epoch"],
        attempts=row["attempts"],
        polls=row["polls"],
        resends=row["resends"],
        reason=row["reason"],
        detail=row["detail"],
        codec=row["codec"],
        format=row["format"],
        duration_seconds=row["duration_seconds"],
        due_at=row["due_at"],
        transcription_id=row["transcription_id"],
        repeats=row["repeats"],
        created_at=row["created_at"],
        submitted_at=row["submitted_at"],
        accepted_at=row["accepted_at"],
        completed_at=row["completed_at"],
        indexed_at=row["indexed_at"],
        only_between=row["only_between"],
    )


def get(tx: Connection, recording_id: int) -> Recording | None:
    """The recording as it is now, None when there is no such id."""
    row = tx.execute(_GET, {"id": recording_id}).mappings().first()
    return from_row(row) if row else None


def lock(tx: Connection, recording_id: int) -> Recording | None:
    """The recording, held against other writers until the transaction ends."""
    row = tx.execute(_LOCK, {"id": recording_id}).mappings().first()
    return from_row(row) if row else None


def find(tx: Connection, media_id_or_ref: str) -> list[Recording]:
    """Every recording with that media id or that ref, newest first."""
    matches = (recordings.c.media_id == media_id_or_ref) | (recordings.c.ref == media_id_or_ref)
    rows = tx.execute(query().where(matches).order_by(recordings.c.id.desc())).mappings()
    return [from_row(row) for row in rows]


def by_fingerprint(tx: Connection, fingerprint: bytes) -> Recording | None:
    """The one recording of that request."""
    row = tx.execute(query().where(recordings.c.fingerprint == fingerprint)).mappings().first()
    return from_row(row) if row else None


def move(
    tx: Connection,
    recording: Recording,
    to: State,
    *,
    by: str,
    reason: str | None = None,
    detail: str | None = None,
    due_at: float | None = None,
    new_epoch: bool = False,
    **values: Any,
) -> Recording | None:
    """Moves the recording on if it is still as the caller saw it, and writes its history; None when it has moved since.

    `due_at` is required for the states in ACTIVE. Counters of the step (attempts, resends) begin anew, and an order to
    repeat a submission ends with it. Raises TransitionNotAllowed for a change that TRANSITIONS does not have.
    """
    check_transition(recording.state, to)
    now = time.time()
    epoch = recording.epoch + 1 if new_epoch else recording.epoch
    changes: dict[str, Any] = {
        "attempts": 0,
        "resends": 0,
        "repeats": recording.repeats if to in _BEFORE_THE_ANSWER else None,
        **values,
        "state": to,
        "epoch": epoch,
        "reason": reason,
        "detail": detail,
        "due_at": due_at if to in ACTIVE else None,
        "changed_at": now,
    }
    if to in _REACHED_AT:
        changes[_REACHED_AT[to]] = now
    if not _change(tx, recording, changes):
        return None
    _remember(tx, recording, to, now, by=by, reason=reason, detail=detail)
    return replace(recording, **{name: value for name, value in changes.items() if name in _FIELDS})


def amend(tx: Connection, recording: Recording, **values: Any) -> bool:
    """Sets columns without a change of state if the recording is still as the caller saw it; False when it is not."""
    return _change(tx, recording, values)


def note(tx: Connection, recording: Recording, *, by: str, reason: str, detail: str | None = None) -> None:
    """Writes history that changed no state, such as a message sent again."""
    _remember(tx, recording, recording.state, time.time(), by=by, reason=reason, detail=detail)


def resend(tx: Connection, recording: Recording, *, by: str, due_at: float) -> Recording | None:
    """Gives a recording that is out a new epoch, for a message to replace a lost one; None when it has moved on."""
    values = {"epoch": recording.epoch + 1, "due_at": due_at, "resends": recording.resends + 1}
    if not _change(tx, recording, values):
        return None
    note(tx, recording, by=by, reason=Reason.RESENT)
    return replace(recording, epoch=recording.epoch + 1, due_at=due_at, resends=recording.resends + 1)


def due(tx: Connection, state: State, now: float, most: int) -> list[Recording]:
    """Handed-out recordings of a state in SWEPT whose `due_at` has passed, the longest overdue first."""
    rows = tx.execute(_DUE, {"state": state, "now": now, "most": most}).mappings()
    return [from_row(row) for row in rows]


def is_any_due(tx: Connection, state: State, now: float) -> bool:
    """Whether `due` would find one."""
    return tx.execute(_ANY_DUE, {"state": state, "now": now}).first() is not None


def those_in(tx: Connection, recording_ids: Collection[int], state: State) -> list[Recording]:
    """Those of the recordings (ids, at most 500) that are in that state."""
    rows = query().where(recordings.c.id.in_(recording_ids), recordings.c.state == state)
    return [from_row(row) for row in tx.execute(rows).mappings()]


def look_again(tx: Connection) -> int:
    """Makes every accepted recording due for a status look-up now; gives how many there are."""
    accepted = (IS_SWEPT, recordings.c.state == State.TRANSCRIBING)
    return tx.execute(update(recordings).where(*accepted).values(due_at=time.time())).rowcount


def is_any_under_way(tx: Connection, states: Iterable[State], held: Collection[int] = ()) -> bool:
    """Whether a recording is in one of these states, which lie in SWEPT, and its backfill does not hold it back.

    Those (ids) in `held` do, as paused ones do.
    """
    goes_on = ((backfills.c.state == RUNNING) & backfills.c.id.not_in(held)) | ~IS_OUT
    some = select(recordings.c.id).join_from(recordings, backfills)
    return tx.execute(some.where(IS_SWEPT, recordings.c.state.in_(states), goes_on).limit(1)).first() is not None


def history(tx: Connection, recording_id: int) -> list[RowMapping]:
    """Every transition and note of the recording, oldest first."""
    rows = select(transitions).where(transitions.c.recording_id == recording_id).order_by(transitions.c.id)
    return list(tx.execute(rows).mappings())


def _remember(
    tx: Connection, recording: Recording, to: State, at: float, *, by: str, reason: str | None, detail: str | None
) -> None:
    row = {"recording_id": recording.id, "at": at, "from_state": recording.state, "to_state": to}
    tx.execute(_NOTE, {**row, "by": by, "reason": reason, "detail": detail})


def _change(tx: Connection, recording: Recording, values: dict[str, Any]) -> bool:
    unchanged = {"id": recording.id, "state": recording.state, "epoch": recording.epoch}
    return change(tx, recordings, unchanged, values) == 1


def ids_in(
    tx: Connection,
    backfill_id: int,
    state: State,
    *,
    reason: str | None = None,
    after_id: int = 0,
    most: int | None = None,
    hold: bool = False,
) -> list[int]:
    """The backfill's next recordings (ids, ascending) in that state and with that reason, if one is named.

    With `hold` no other writer changes them before the transaction ends.
    """
    mine = select(recordings.c.id).where(
        recordings.c.backfill_id == backfill_id, recordings.c.state == state, recordings.c.id > after_id
    )
    if reason is not None:
        mine = mine.where(recordings.c.reason == reason)
    mine = mine.order_by(recordings.c.id).limit(most)
    return list(tx.execute(mine.with_for_update(key_share=True) if hold else mine).scalars())


def begin_anew(tx: Connection, recording_ids: Sequence[int], state: State, *, by: str) -> None:
    """Makes recordings (ids, at most 500, held by `ids_in`) that ended in `state` pending, as if they were new.

    A message or a POST of theirs that has not begun does nothing then.
    """
    check_transition(state, State.PENDING)
    if not recording_ids:
        return
    now = time.time()
    anew = {"state": State.PENDING, "reason": Reason.RETRIED, "detail": None, "transcription_id": None, "repeats": None}
    counters = {"attempts": 0, "resends": 0, "polls": 0, "epoch": recordings.c.epoch + 1}
    theirs = update(recordings).where(recordings.c.id.in_(recording_ids))
    tx.execute(theirs.values(**anew, **counters, due_at=now, changed_at=now))
    row = {"at": now, "from_state": state, "to_state": State.PENDING, "by": by, "reason": Reason.RETRIED}
    tx.execute(insert(transitions), [{**row, "recording_id": one} for one in recording_ids])


def reasons_in(tx: Connection, backfill_id: int, states: Iterable[State]) -> dict[tuple[State, str | None], int]:
    """How many of the backfill's recordings are in these states, by state and reason."""
    counted = (
        select(recordings.c.state, recordings.c.reason, func.count().label("number"))
        .where(recordings.c.backfill_id == backfill_id, recordings.c.state.in_(list(states)))
        .group_by(recordings.c.state, recordings.c.reason)
        .order_by(recordings.c.state, recordings.c.reason)
    )
    return {(State(row.state), row.reason): row.number for row in tx.execute(counted)}
