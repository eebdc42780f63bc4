"""Last step: applies what the inbox holds and makes transcripts searchable, as many at once as have come."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from workers import dispatch
from workers.errors import DocumentsNotStored, SearchUnavailable
from workers.ledger import recordings, transcripts
from workers.model import Recording, State, Transcript
from workers.pipeline.applying import UNINDEXED_SECONDS, apply_others, apply_waiting
from workers.pipeline.clock import after
from workers.pipeline.documents import document_of, transcript_of
from workers.pipeline.finish import audit
from workers.pipeline.taking_back import take_back, take_back_forgotten
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Documents written together: one transaction of the embedded index, one request to a search engine.
BATCH: Final = 100


def index(resources: Resources, recording_id: int, *, by: str) -> Recording | None:
    """Applies waiting events; a completed recording's document is written and the recording is `indexed`.

    Gives the recording as it is then, None where somebody else may have moved it meanwhile.

    Others whose events have come meanwhile are taken along, and those that have waited for the index: their own
    messages find nothing to do then. When it returns, the document is durable, or the recording is `completed` with a
    moment at which the sweep goes on. Safe to repeat, also late: a document is written with its version, and one that
    was forgotten meanwhile is removed.
    """
    recording = apply_waiting(resources, recording_id, by=by)
    if recording is None:
        return None
    if recording.state == State.TRANSCRIBING and recording.due_at is not None and recording.due_at <= time.time():
        dispatch.send_poll(recording.id, recording.media_id)  # it ended, but the event brought no result
    elif recording.state == State.COMPLETED:
        come = apply_others(resources, BATCH - 1, by=by)
        waited = _overdue(resources, BATCH - 1 - len(come))
        # By id: whoever changes many rows does so in one order, else two of them could wait for each other for ever.
        together = sorted({one.id: one for one in (*waited, *come, recording)}.items())
        return _write(resources, dict(together), by=by).get(recording.id)
    elif recording.state == State.FORGOTTEN:
        take_back(resources, [recording.ref])  # whoever wrote its document may have died before taking it back
    return recording


def _overdue(resources: Resources, most: int) -> list[Recording]:
    """Completed recordings whose moment has passed, such as after an outage; the sweep does not ask for them then."""
    if not most:
        return []
    with resources.ledger.read() as tx:
        if not recordings.is_any_due(tx, State.COMPLETED, time.time()):
            return []
    with resources.ledger.write() as tx:
        due = sorted(recordings.due(tx, State.COMPLETED, time.time(), most), key=lambda one: one.id)
        return [one for one in due if recordings.amend(tx, one, due_at=after(UNINDEXED_SECONDS))]


def _write(resources: Resources, completed: Mapping[int, Recording], *, by: str) -> dict[int, Recording]:
    """Writes the documents of these recordings by id; gives those that are indexed thereby."""
    with resources.ledger.read() as tx:
        payloads = transcripts.payloads(tx, list(completed))
    # Of one that was forgotten since there is none any more.
    spoken = {id_: transcript_of(payloads[id_]) for id_ in completed if id_ in payloads}
    now = time.time()
    documents = [document_of(completed[id_], one, indexed_at=now) for id_, one in spoken.items()]
    reasons: Mapping[str, str] = {}
    try:
        resources.index.upsert(documents)
    except DocumentsNotStored as error:
        reasons = error.reasons
    except SearchUnavailable as error:
        reasons = {document.ref: str(error) for document in documents}
    _put_off(resources, [one for one in completed.values() if one.ref in reasons], reasons)
    stored = {id_: one for id_, one in spoken.items() if completed[id_].ref not in reasons}
    return _indexed(resources, completed, stored, by=by)


def _put_off(resources: Resources, left: Sequence[Recording], reasons: Mapping[str, str]) -> None:
    """Not retried by Celery: thousands of messages would wait in the workers for a search engine that is down."""
    if not left:
        return
    with resources.ledger.write() as tx:
        for recording in left:
            recordings.amend(tx, recording, due_at=after(UNINDEXED_SECONDS), detail=reasons[recording.ref])
    for recording in left:
        log.warning("document_not_written", recording_id=recording.id, detail=reasons[recording.ref])


def _indexed(
    resources: Resources, completed: Mapping[int, Recording], stored: Mapping[int, Transcript], *, by: str
) -> dict[int, Recording]:
    if not stored:
        return {}
    with resources.ledger.write() as tx:
        moved = [
            recordings.move(tx, completed[id_], State.INDEXED, by=by, reason=completed[id_].reason) for id_ in stored
        ]
        done = {recording.id: recording for recording in moved if recording}
        for recording in done.values():
            audit(recording, stored[recording.id])
    for recording in done.values():
        transcript = stored[recording.id]
        log.info(
            "recording_indexed",
            recording_id=recording.id,
            transcription_id=transcript.transcription_id,
            words=transcript.words,
        )
    _take_back(resources, stored.keys() - done.keys())
    return done


def _take_back(resources: Resources, overtaken: set[int]) -> None:
    """Removes documents of recordings that were forgotten while they were written."""
    if overtaken:
        take_back_forgotten(resources, overtaken)
