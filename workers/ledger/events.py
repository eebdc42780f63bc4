"""The webhook inbox, and the transcripts that came out of it."""

import time
import zlib
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, update

from workers.ledger.insert import insert_or_ignore
from workers.ledger.tables import IS_NEW, events, recordings, transcripts
from workers.model import Transcript

NEW: Final = "new"
APPLIED: Final = "applied"
IGNORED: Final = "ignored"
REFUSED: Final = "refused"
UNMATCHED: Final = "unmatched"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event as it came: `payload` is the raw body, `recording_id` None when no submission has its callback ref."""

    callback_ref: str
    recording_id: int | None
    transcription_id: str
    type: str
    payload: bytes
    has_result: bool
    state: str = NEW
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in the inbox; `payload` is the raw body."""

    id: int
    callback_ref: str
    recording_id: int
    transcription_id: str
    type: str
    payload: bytes


def store(tx: Connection, arrival: Arrival) -> bool:
    """Keeps an event; False when it is there already. One with a result replaces one without."""
    payload = zlib.compress(arrival.payload, 6)
    same = select(events.c.id, events.c.has_result).where(
        events.c.transcription_id == arrival.transcription_id, events.c.type == arrival.type
    )
    if arrival.recording_id is None:
        same = same.where(events.c.recording_id.is_(None), events.c.callback_ref == arrival.callback_ref)
    else:
        same = same.where(events.c.recording_id == arrival.recording_id)
    before = tx.execute(same).first()
    if before is None:
        row = {
            "received_at": time.time(),
            "callback_ref": arrival.callback_ref,
            "recording_id": arrival.recording_id,
            "transcription_id": arrival.transcription_id,
            "type": arrival.type,
            "payload": payload,
            "has_result": arrival.has_result,
            "state": arrival.state,
            "detail": arrival.detail,
        }
        insert_or_ignore(tx, events, [row])
        return True
    if arrival.has_result and not before.has_result:
        better = {"payload": payload, "has_result": True, "state": arrival.state, "received_at": time.time()}
        tx.execute(update(events).where(events.c.id == before.id).values(**better))
        return True
    return False


def waiting(tx: Connection, recording_id: int) -> list[StoredEvent]:
    """The recording's events that nobody has applied yet, oldest first."""
    rows = select(events).where(IS_NEW, events.c.recording_id == recording_id).order_by(events.c.id)
    return [
        StoredEvent(
            row["id"],
            row["callback_ref"],
            row["recording_id"],
            row["transcription_id"],
            row["type"],
            zlib.decompress(row["payload"]),
        )
        for row in tx.execute(rows).mappings()
    ]


def recordings_with_waiting(tx: Connection, most: int, older_than: float) -> list[tuple[int, str]]:
    """Recordings (id, media id) whose events came before `older_than` (Unix seconds) and were not applied yet."""
    rows = (
        select(recordings.c.id, recordings.c.media_id)
        .distinct()
        .join_from(events, recordings)
        .where(IS_NEW, events.c.received_at < older_than)
        .limit(most)
    )
    return [(row.id, row.media_id) for row in tx.execute(rows)]


def mark(tx: Connection, event_id: int, state: str, detail: str | None = None) -> None:
    """Says what became of an event."""
    tx.execute(update(events).where(events.c.id == event_id).values(state=state, detail=detail))


def keep_transcript(tx: Connection, recording_id: int, transcript: Transcript, payload: bytes) -> None:
    """Stores what the API sent for the recording; the first transcript stays."""
    row = {
        "recording_id": recording_id,
        "transcription_id": transcript.transcription_id,
        "payload": zlib.compress(payload, 6),
        "segments": len(transcript.segments),
        "words": transcript.words,
        "average_confidence": transcript.average_confidence,
        "latency_seconds": transcript.latency_seconds,
        "redacted": transcript.redacted,
        "received_at": time.time(),
    }
    insert_or_ignore(tx, transcripts, [row])


def transcript_payload(tx: Connection, recording_id: int) -> bytes | None:
    """The event that carried the recording's transcript, as received."""
    kept = tx.execute(select(transcripts.c.payload).where(transcripts.c.recording_id == recording_id)).scalar()
    return None if kept is None else zlib.decompress(kept)
