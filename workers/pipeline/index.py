"""Last step: applies what the inbox holds for a recording and makes its transcript searchable."""

import time

import structlog

from workers import dispatch
from workers.errors import SearchUnavailable
from workers.ledger import events, recordings
from workers.model import Recording, State
from workers.pipeline.clock import after
from workers.pipeline.documents import document_of, transcript_of
from workers.pipeline.events import UNINDEXED_SECONDS, apply_waiting
from workers.pipeline.finish import audit
from workers.pipeline.taking_back import take_back, take_back_forgotten
from workers.resources import Resources

log = structlog.get_logger(__name__)


def index(resources: Resources, recording_id: int, *, by: str) -> None:
    """Applies waiting events; a completed recording's document is written and the recording is `indexed`.

    Safe to repeat, also late: the document is written with its version. When the index can't be written the recording
    stays `completed`, and the sweep goes on when it can.
    """
    recording = apply_waiting(resources, recording_id, by=by)
    if recording is None:
        return
    if recording.state == State.TRANSCRIBING and recording.due_at is not None and recording.due_at <= time.time():
        dispatch.send_poll(recording.id, recording.media_id)  # it ended, but the event brought no result
        return
    if recording.state == State.COMPLETED:
        _write(resources, recording, by=by)
    elif recording.state == State.FORGOTTEN:
        take_back(resources, [recording.ref])  # whoever wrote its document may have died before taking it back


def _write(resources: Resources, recording: Recording, *, by: str) -> None:
    with resources.ledger.read() as tx:
        payload = events.transcript_payload(tx, recording.id)
    if payload is None:
        return  # it was forgotten just now
    transcript = transcript_of(payload)
    document = document_of(recording, transcript, indexed_at=time.time())
    try:
        resources.index.upsert([document])
    except SearchUnavailable as error:
        # Not retried by Celery: thousands of messages would wait in the workers for a search engine that is down.
        with resources.ledger.write() as tx:
            recordings.amend(tx, recording, due_at=after(UNINDEXED_SECONDS), detail=str(error))
        log.warning("document_not_written", recording_id=recording.id, detail=str(error))
        return
    with resources.ledger.write() as tx:
        moved = recordings.move(tx, recording, State.INDEXED, by=by, reason=recording.reason)
    if moved:
        audit(moved, transcript)
        log.info(
            "recording_indexed",
            recording_id=recording.id,
            transcription_id=transcript.transcription_id,
            words=transcript.words,
        )
    else:
        take_back_forgotten(resources, [recording.id])
