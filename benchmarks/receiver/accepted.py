"""Fills a ledger with recordings that the API has accepted, and makes the events that it would send for them.

python -m benchmarks.receiver.accepted NUMBER FILE, with the settings of a deployment, writes one event a line.
"""

import json
import random
import sys
import time
import uuid
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, select

from config.settings import load_settings
from workers.ledger import backfills, submissions
from workers.ledger.backfills import Asked
from workers.ledger.engine import Ledger
from workers.ledger.tables import recordings
from workers.ledger.tables import submissions as table
from workers.model import Lane, State, TranscriptionRequest
from workers.pipeline.callbacks import mint
from workers.resources import Resources

BATCH: Final = 500
#: Nothing of it comes due while a run lasts.
LATER_SECONDS: Final = 3600.0
WORDS: Final = ("the", "refund", "parcel", "order", "was", "not", "released", "so", "please", "call", "again", "today")

_SET: Final = ("state", "due_at", "transcription_id", "submitted_at", "accepted_at")
_ACCEPT: Final = (
    recordings.update()
    .where(recordings.c.id == bindparam("row"))
    .values(epoch=1, **{name: bindparam(name) for name in _SET})
)


class Waiting(NamedTuple):
    """A recording of which an event is to come."""

    token: str
    transcription_id: str
    media_id: str


def fill(
    ledger: Ledger, number: int, secrets: Sequence[bytes], *, early: int = 0, backfill: str = "bench"
) -> list[Waiting]:
    """So many recordings that were accepted; of the first `early` the answer is still on its way."""
    with ledger.write() as tx:
        target = backfills.ensure(tx, backfill, {})
    made: list[Waiting] = []
    numbers = iter(range(number))
    while entries := list(islice(numbers, BATCH)):
        media = {entry: str(uuid.uuid4()) for entry in entries}
        asked = [Asked(entry, TranscriptionRequest(media_id=media[entry], languages=("en-US",))) for entry in entries]
        with ledger.write_many() as tx:
            backfills.add(tx, target, Lane.BACKFILL, asked, by="a benchmark")
            mine = select(recordings.c.id, recordings.c.entry).where(
                recordings.c.backfill_id == target.id, recordings.c.entry.in_(entries)
            )
            ids = {row.entry: row.id for row in tx.execute(mine)}
            rows = [_accepted(ids[entry], media[entry], secrets, early=entry < early) for entry in entries]
            tx.execute(_ACCEPT, [change for change, _, _ in rows])
            tx.execute(table.insert(), [sent for _, sent, _ in rows])
        made += [one for _, _, one in rows]
    return made


def _accepted(
    recording_id: int, media_id: str, secrets: Sequence[bytes], *, early: bool
) -> tuple[dict[str, Any], dict[str, Any], Waiting]:
    """What changes in the recording, its submission, and what an event of it needs."""
    ref, now, transcription_id = uuid.uuid4().hex, time.time(), str(uuid.uuid4())
    known = None if early else transcription_id
    change = {
        "row": recording_id,
        "state": State.SUBMITTING if early else State.TRANSCRIBING,
        "due_at": now + LATER_SECONDS,
        "transcription_id": known,
        "submitted_at": now,
        "accepted_at": None if early else now,
    }
    sent = {
        "recording_id": recording_id,
        "number": 1,
        "callback_ref": ref,
        "epoch": 1,
        "sent_at": now,
        "outcome": submissions.OPEN if early else submissions.ACCEPTED,
        "transcription_id": known,
        "request_digest": bytes(32),
    }
    return change, sent, Waiting(mint(ref, secrets), transcription_id, media_id)


def body(one: Waiting, segments: Sequence[dict[str, Any]]) -> bytes:
    """The event of a completed transcription."""
    result = {"mediaId": one.media_id, "redacted": False, "transcripts": segments}
    data = {"transcriptionId": one.transcription_id, "status": "completed", "result": result}
    return json.dumps({"eventType": "transcription.completed", "data": data}).encode()


def speech(size: int) -> list[dict[str, Any]]:
    """Segments that take about so many bytes as JSON; the same each time."""
    chance, segments, bytes_left = random.Random(size), [], float(size)
    while bytes_left > 0:
        text, start = " ".join(chance.choices(WORDS, k=11)), len(segments) * 4000
        segments.append(
            {
                "text": text,
                "confidence": 0.93,
                "speaker": "agent",
                "startMs": start,
                "endMs": start + 3900,
                "language": "en-US",
            }
        )
        bytes_left -= len(json.dumps(segments[-1])) + 2
    return segments


def main(number: str, file: str) -> None:
    resources = Resources(load_settings())
    rows = fill(resources.ledger, int(number), resources.settings.signing_secrets)
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")
    resources.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
