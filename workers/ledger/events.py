"""The webhook inbox, and the transcripts that came out of it."""

import time
import zlib
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select

from workers.ledger.statements import change, insert_or_ignore
from workers.ledger.tables import IS_NEW, events, recordings, transcripts
from workers.model import Transcript

NEW: Final = "new"
APPLIED: Final = "applied"
IGNORED: Final = "ignored"
REFUSED: Final = "refused"
UNMATCHED: Final = "unmatched"

_ONE: Final = select(events.c.id, events.c.has_result).where(
    events.c.transcription_id == bindparam("transcription_id"), events.c.type == bindparam("type")
)
_SAME: Final = _ONE.where(events.c.recording_id == bindparam("recording_id"))
_SAME_UNMATCHED: Final = _ONE.where(events.c.recording_id.is_(None), events.c.callback_ref == bindparam("callback_ref"))
_WAITING: Final = select(events).where(IS_NEW, events.c.recording_id == bindparam("recording_id")).order_by(events.c.id)
_IS_WAITING: Final = select(events.c.id).where(IS_NEW, events.c.recording_id == bindparam("recording_id")).limit(1)
_PAYLOAD: Final = select(transcripts.c.payload).where(transcripts.c.recording_id == bindparam("recording_id"))


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event as it came: `packed` is its body by `pack`, `recording_id` None when no submission has its ref."""

    callback_ref: str
    recording_id: int | None
    transcription_id: str
    type: str
    packed: bytes
    has_result: bool
    state: str = NEW
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in the inbox; `packed` is its body by `pack`."""

    id: int
    callback_ref: str
    recording_id: int
    transcription_id: str
    type: str
    packed: bytes

    @property
    def payload(self) -> bytes:
        """The body as it was received."""
        return zlib.decompress(self.packed)


def pack(payload: bytes) -> bytes:
    """A body as the ledger keeps it; made before a transaction begins, for a large one takes a while."""
    return zlib.compress(payload, 6)


def store(tx: Connection, arrival: Arrival) -> bool:
    """Keeps an event; False when it is there already. One with a result replaces one without."""
    key = {"transcription_id": arrival.transcription_id, "type": arrival.type}
    if arrival.recording_id is None:
        before = tx.execute(_SAME_UNMATCHED, {**key, "callback_ref": arrival.callback_ref}).first()
    else:
        before = tx.execute(_SAME, {**key, "recording_id": arrival.recording_id}).first()
    if before is None:
        row = {
            "received_at": time.time(),
            "callback_ref": arrival.callback_ref,
            "recording_id": arrival.recording_id,
            "transcription_id": arrival.transcription_id,
            "type": arrival.type,
            "payload": arrival.packed,
            "has_result": arrival.has_result,
            "state": arrival.state,
            "detail": arrival.detail,
        }
        insert_or_ignore(tx, events, [row])
        return True
    if arrival.has_result and not before.has_result:
        better = {"payload": arrival.packed, "has_result": True, "state": arrival.state, "received_at": time.time()}
        change(tx, events, {"id": before.id}, better)
        return True
    return False


def waiting(tx: Connection, recording_id: int) -> list[StoredEvent]:
    """The recording's events that nobody has applied yet, oldest first."""
    return [
        StoredEvent(
            row["id"],
            row["callback_ref"],
            row["recording_id"],
            row["transcription_id"],
            row["type"],
            bytes(row["payload"]),
        )
        for row in tx.execute(_WAITING, {"recording_id": recording_id}).mappings()
    ]


def is_waiting(tx: Connection, recording_id: int) -> bool:
    """Whether the inbox holds something of the recording that nobody has applied yet: then nothing is decided."""
    return tx.execute(_IS_WAITING, {"recording_id": recording_id}).first() is not None


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
    change(tx, events, {"id": event_id}, {"state": state, "detail": detail})


def keep_transcript(tx: Connection, recording_id: int, transcript: Transcript, packed: bytes) -> None:
    """Stores what the API sent for the recording; the first transcript stays."""
    row = {
        "recording_id": recording_id,
        "transcription_id": transcript.transcription_id,
        "payload": packed,
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
    kept = tx.execute(_PAYLOAD, {"recording_id": recording_id}).scalar()
    return None if kept is None else zlib.decompress(kept)
