"""The transcripts: what the API sent for each recording, as received."""

import time
import zlib
from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection, bindparam, select

from workers.ledger.recordings import from_row, query
from workers.ledger.statements import insert_or_ignore
from workers.ledger.tables import recordings, transcripts
from workers.model import Recording, State, Transcript

_SPOKEN: Final = (
    query().add_columns(transcripts.c.payload).join(transcripts, transcripts.c.recording_id == recordings.c.id)
)
_SEARCHABLE: Final = recordings.c.state.in_([State.COMPLETED, State.INDEXED])
_BATCH: Final = (
    _SPOKEN.where(transcripts.c.recording_id > bindparam("after_id"), _SEARCHABLE)
    .order_by(transcripts.c.recording_id)
    .limit(bindparam("most"))
)
_BATCH_OF: Final = (
    _SPOKEN.where(
        recordings.c.backfill_id == bindparam("backfill_id"),
        recordings.c.state == State.INDEXED,
        recordings.c.id > bindparam("after_id"),
    )
    .order_by(recordings.c.id)
    .limit(bindparam("most"))
)


def keep(tx: Connection, recording_id: int, transcript: Transcript, packed: bytes) -> None:
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


def batch(tx: Connection, *, after_id: int, most: int) -> list[tuple[Recording, bytes]]:
    """The next recordings that have a transcript, by id, each with the event that carried it."""
    rows = tx.execute(_BATCH, {"after_id": after_id, "most": most}).mappings()
    return [(from_row(row), zlib.decompress(row["payload"])) for row in rows]


def batch_of(tx: Connection, backfill_id: int, *, after_id: int, most: int) -> list[tuple[Recording, bytes]]:
    """As `batch`, only those that are indexed already and belong to the backfill."""
    values = {"backfill_id": backfill_id, "after_id": after_id, "most": most}
    rows = tx.execute(_BATCH_OF, values).mappings()
    return [(from_row(row), zlib.decompress(row["payload"])) for row in rows]


def payloads(tx: Connection, recording_ids: Collection[int]) -> dict[int, bytes]:
    """The events that carried the transcripts of these recordings (ids, at most 500), as received."""
    mine = select(transcripts.c.recording_id, transcripts.c.payload)
    rows = tx.execute(mine.where(transcripts.c.recording_id.in_(recording_ids)))
    return {row.recording_id: zlib.decompress(row.payload) for row in rows}
