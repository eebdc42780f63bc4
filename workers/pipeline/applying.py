"""Applies the events of the inbox: what they say of their recordings, and what follows from it."""

from typing import Final

import structlog
from sqlalchemy import Connection

from workers.genesys.events import Event, parse_event
from workers.ledger import erasure, events, recordings, submissions, transcripts
from workers.ledger.states import BEFORE_COMPLETED
from workers.ledger.submissions import Submission
from workers.model import Reason, Recording, State
from workers.pipeline import acceptance
from workers.pipeline.acceptance import Acceptance
from workers.pipeline.clock import NOW, after
from workers.pipeline.events import OF_ANOTHER
from workers.pipeline.finish import audit
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: A completed recording whose index message got lost is looked at by the sweep after this long.
UNINDEXED_SECONDS: Final = 60.0
#: Recordings whose events are applied in one transaction: some milliseconds each.
TOGETHER: Final = 10


def apply_waiting(resources: Resources, recording_id: int, *, by: str) -> Recording | None:
    """Applies the recording's waiting events and gives the recording as it is then.

    Those with a result come first. One that completed without a result comes after a failure: it has to be looked up.
    """
    with resources.ledger.write() as tx:
        recording = recordings.lock(tx, recording_id)
        if recording is None:
            return None
        recording, failed = _apply_all(tx, resources, recording, by=by)
    if failed:
        _log_failed(recording)
    return recording


def apply_others(resources: Resources, most: int, *, by: str) -> list[Recording]:
    """Applies the waiting events of up to `most` recordings, oldest first; gives those that are completed thereby.

    Each is given to one caller only, however many look at once, and is the caller's to index.
    """
    completed: list[Recording] = []
    looked = 0
    while looked < most:
        with resources.ledger.read() as tx:
            if not events.is_any_waiting(tx):
                break
        failed: list[Recording] = []
        with resources.ledger.write() as tx:
            found = events.lock_waiting(tx, min(TOGETHER, most - looked))
            for before in found:
                recording, has_failed = _apply_all(tx, resources, before, by=by)
                if has_failed:
                    failed.append(recording)
                elif recording.state == State.COMPLETED and before.state != State.COMPLETED:
                    completed.append(recording)
        for recording in failed:
            _log_failed(recording)
        looked += len(found)
        if len(found) < TOGETHER:
            break
    return completed


def _apply_all(tx: Connection, resources: Resources, recording: Recording, *, by: str) -> tuple[Recording, bool]:
    """Applies a locked recording's events; gives it as it is then, and whether one of them failed it."""
    if recording.state == State.FORGOTTEN:
        erasure.erase_text(tx, recording.id)
        return recording, False
    failed = False
    waiting = [(stored, parse_event(stored.payload)) for stored in events.waiting(tx, recording.id)]
    waiting.sort(key=lambda pair: (pair[1].transcript is None, pair[1].status == "completed"))
    for stored, event in waiting:
        state, why = _apply(tx, resources, recording, stored, event, by=by)
        events.mark(tx, stored.id, state, why)
        recording = _fresh(tx, recording)
        failed = failed or (state == events.APPLIED and event.status == "failed")
    failed = failed and recording.state == State.FAILED
    if failed:
        audit(recording)
    return recording, failed


def _log_failed(recording: Recording) -> None:
    log.info("transcription_failed", recording_id=recording.id, transcription_id=recording.transcription_id)


def _apply(
    tx: Connection, resources: Resources, recording: Recording, stored: events.StoredEvent, event: Event, *, by: str
) -> tuple[str, str | None]:
    """Applies one event to a locked recording; gives the event's new state and why."""
    fact = Acceptance(stored.callback_ref, event.transcription_id)
    if recording.state not in BEFORE_COMPLETED | {State.TRANSCRIBING}:
        if event.status == "completed":  # whatever has come of it, another one was paid for
            acceptance.record(tx, resources, fact, by=by)
        return events.IGNORED, f"the recording was {recording.state} already"
    owner = submissions.owner(tx, event.transcription_id)
    if owner not in (None, recording.id) and recording.transcription_id != event.transcription_id:
        return events.REFUSED, OF_ANOTHER
    if event.status == "failed":
        return _failed(tx, resources, recording, stored, event, by=by)
    acceptance.record(tx, resources, fact, by=by, reason=Reason.WEBHOOK)
    recording = _fresh(tx, recording)
    if event.transcript is None and recording.transcription_id != event.transcription_id:
        return events.IGNORED, "it is not the recording's present transcription, and has no result"
    if recording.state != State.TRANSCRIBING:
        recording = _proved(tx, recording, event, by=by)
    if event.transcript is None:
        recordings.amend(tx, recording, due_at=NOW)
        return events.APPLIED, "it has no result, so that is looked up"
    transcripts.keep(tx, recording.id, event.transcript, stored.packed)
    recordings.move(
        tx,
        recording,
        State.COMPLETED,
        by=by,
        reason=None if event.transcript.segments else Reason.EMPTY,
        due_at=after(UNINDEXED_SECONDS),
        transcription_id=event.transcription_id,
    )
    return events.APPLIED, None


def _failed(
    tx: Connection, resources: Resources, recording: Recording, stored: events.StoredEvent, event: Event, *, by: str
) -> tuple[str, str | None]:
    """Fails the recording if the transcription that failed is its present one; records the fact in any case."""
    submission = submissions.by_callback_ref(tx, stored.callback_ref)
    assert submission is not None  # noqa: S101 the event was matched by it
    if _is_current(tx, recording, submission, event):
        acceptance.record(
            tx, resources, Acceptance(stored.callback_ref, event.transcription_id), by=by, reason=Reason.WEBHOOK
        )
        present = _fresh(tx, recording)
        if present.state != State.TRANSCRIBING:
            present = _proved(tx, present, event, by=by)
        detail = event.message or "The API says that the transcription failed."
        recordings.move(tx, present, State.FAILED, by=by, reason=Reason.TRANSCRIPTION_FAILED, detail=detail)
        verdict: tuple[str, str | None] = (events.APPLIED, None)
    else:
        submissions.settle(tx, submission.id, submissions.ACCEPTED, transcription_id=event.transcription_id)
        verdict = (events.IGNORED, "another transcription of the recording is the present one")
    submissions.note_failed(tx, submissions.get(tx, submission.id), event.transcription_id)
    return verdict


def _is_current(tx: Connection, recording: Recording, submission: Submission, event: Event) -> bool:
    if recording.transcription_id is not None:
        return recording.transcription_id == event.transcription_id and recording.state != State.FAILED
    latest = submissions.latest(tx, recording.id)
    return latest is not None and latest.id == submission.id and submission.failed_at is None


def _proved(tx: Connection, recording: Recording, event: Event, *, by: str) -> Recording:
    """From wherever the recording stands to `transcribing`: its event proves that it was accepted."""
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


def _fresh(tx: Connection, recording: Recording) -> Recording:
    found = recordings.get(tx, recording.id)
    assert found is not None  # noqa: S101 rows are never deleted
    return found
