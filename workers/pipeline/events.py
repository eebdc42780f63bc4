"""What an event says and what follows: taken in by the receiver, applied by the index task."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog
from sqlalchemy import Connection

from workers.genesys.events import Event, parse_event
from workers.ledger import events, recordings, submissions
from workers.ledger.states import BEFORE_COMPLETED
from workers.model import Reason, Recording, State
from workers.pipeline.clock import after
from workers.pipeline.finish import audit
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: A completed recording whose index message got lost is looked at by the sweep after this long.
UNINDEXED_SECONDS: Final = 60.0
#: The moment of something that is to be done at once.
NOW: Final = 0.0


class Verdict(StrEnum):
    """What became of a delivery with a valid token."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    UNMATCHED = "unmatched"
    REFUSED = "refused"
    MISMATCHED = "mismatched"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The verdict, and the recording that the index task is to be sent for."""

    verdict: Verdict
    recording_id: int | None = None
    media_id: str | None = None


def receive(resources: Resources, callback_ref: str, raw: bytes) -> Receipt:
    """Keeps an event whose token was valid, in one transaction: when this returns, it survives anything.

    Raises InputError for a malformed body, LedgerUnavailable when it could not be kept.
    """
    event = parse_event(raw)
    if not event.known:
        return Receipt(Verdict.IGNORED)
    packed = events.pack(raw)
    with resources.ledger.write() as tx:
        return _take(tx, callback_ref, event, packed)


def _take(tx: Connection, callback_ref: str, event: Event, packed: bytes) -> Receipt:
    submission = submissions.by_callback_ref(tx, callback_ref)
    recording = recordings.get(tx, submission.recording_id) if submission else None
    if recording is None:
        new = events.store(tx, _arrival(callback_ref, None, event, packed, events.UNMATCHED))
        return Receipt(Verdict.UNMATCHED if new else Verdict.DUPLICATE)
    if event.media_id is not None and event.media_id != recording.media_id:
        return Receipt(Verdict.MISMATCHED, recording.id, recording.media_id)
    if recording.state == State.FORGOTTEN:
        return Receipt(Verdict.IGNORED)
    owner = submissions.by_transcription_id(tx, event.transcription_id)
    if owner is not None and owner.recording_id != recording.id:
        detail = "its transcription id belongs to another recording"
        new = events.store(tx, _arrival(callback_ref, recording.id, event, packed, events.REFUSED, detail))
        return Receipt(Verdict.REFUSED if new else Verdict.DUPLICATE)
    new = events.store(tx, _arrival(callback_ref, recording.id, event, packed, events.NEW))
    return Receipt(Verdict.STORED if new else Verdict.DUPLICATE, recording.id, recording.media_id)


def look_soon(resources: Resources, callback_ref: str) -> None:
    """Has the sweep poll for a result whose delivery could not be taken, such as one that was too large."""
    with resources.ledger.write() as tx:
        submission = submissions.by_callback_ref(tx, callback_ref)
        recording = recordings.lock(tx, submission.recording_id) if submission else None
        if recording is not None and recording.state == State.TRANSCRIBING:
            recordings.amend(tx, recording, due_at=NOW)


def apply_waiting(resources: Resources, recording_id: int, *, by: str) -> Recording | None:
    """Applies the recording's waiting events, completed ones first; gives the recording as it is then."""
    ended: list[Recording] = []
    with resources.ledger.write() as tx:
        recording = recordings.lock(tx, recording_id)
        if recording is None:
            return None
        waiting = [(stored, parse_event(stored.payload)) for stored in events.waiting(tx, recording_id)]
        for stored, event in sorted(waiting, key=lambda pair: pair[1].transcript is None):
            state = _apply(tx, recording, stored, event, by=by)
            events.mark(tx, stored.id, state)
            recording = recordings.get(tx, recording_id)
            assert recording is not None  # noqa: S101 rows are never deleted
            if state == events.APPLIED and recording.state == State.FAILED:
                ended.append(recording)
    for one in ended:
        audit(one)
        log.info("transcription_failed", recording_id=one.id, transcription_id=one.transcription_id)
    return recording


def _apply(tx: Connection, recording: Recording, stored: events.StoredEvent, event: Event, *, by: str) -> str:
    """Applies one event to a locked recording; gives the event's new state."""
    if recording.state not in BEFORE_COMPLETED | {State.TRANSCRIBING}:
        return events.IGNORED
    if event.status == "failed" and recording.state == State.FAILED:
        return events.IGNORED
    submission = submissions.by_callback_ref(tx, stored.callback_ref)
    if submission is not None:
        submissions.settle(tx, submission.id, submissions.ACCEPTED, transcription_id=event.transcription_id)
    current = recording.transcription_id in (None, event.transcription_id)
    if event.status != "completed" and not current:
        return events.IGNORED  # a failed or unfinished one of an earlier submission decides nothing
    if recording.state in BEFORE_COMPLETED:
        recording = _proved(tx, recording, event, by=by)
    if event.status == "failed":
        detail = event.message or "The API says that the transcription failed."
        recordings.move(tx, recording, State.FAILED, by=by, reason=Reason.TRANSCRIPTION_FAILED, detail=detail)
    elif event.transcript is not None:
        events.keep_transcript(tx, recording.id, event.transcript, stored.packed)
        reason = None if event.transcript.segments else Reason.EMPTY
        recordings.move(
            tx,
            recording,
            State.COMPLETED,
            by=by,
            reason=reason,
            due_at=after(UNINDEXED_SECONDS),
            transcription_id=event.transcription_id,
        )
    else:
        recordings.amend(tx, recording, due_at=NOW)
    return events.APPLIED


def _proved(tx: Connection, recording: Recording, event: Event, *, by: str) -> Recording:
    """An event with a valid token proves acceptance: nobody may submit the recording any more."""
    moved = recordings.move(
        tx,
        recording,
        State.TRANSCRIBING,
        by=by,
        reason=Reason.WEBHOOK,
        due_at=after(UNINDEXED_SECONDS),
        new_epoch=True,
        transcription_id=event.transcription_id,
        polls=0,
    )
    assert moved is not None  # noqa: S101 the row is locked
    return moved


def _arrival(
    callback_ref: str, recording_id: int | None, event: Event, packed: bytes, state: str, detail: str | None = None
) -> events.Arrival:
    return events.Arrival(
        callback_ref=callback_ref,
        recording_id=recording_id,
        transcription_id=event.transcription_id,
        type=event.event_type,
        packed=packed,
        has_result=event.transcript is not None,
        state=state,
        detail=detail,
    )
