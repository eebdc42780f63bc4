"""One row for each POST that may have left; facts about it are recorded whoever learns them."""

import time
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select
from sqlalchemy.engine import RowMapping

from workers.ledger.statements import change
from workers.ledger.tables import submissions

OPEN: Final = "open"
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
NOT_SENT: Final = "not_sent"
UNKNOWN: Final = "unknown"

_INSERT: Final = insert(submissions)
_NEXT_NUMBER: Final = select(func.coalesce(func.max(submissions.c.number), 0) + 1).where(
    submissions.c.recording_id == bindparam("recording_id")
)
_BY_ID: Final = select(submissions).where(submissions.c.id == bindparam("id"))
_BY_CALLBACK_REF: Final = select(submissions).where(submissions.c.callback_ref == bindparam("ref"))
_BY_TRANSCRIPTION_ID: Final = select(submissions).where(submissions.c.transcription_id == bindparam("id"))


@dataclass(frozen=True, slots=True)
class Submission:
    """A POST that may have left; times are Unix seconds."""

    id: int
    recording_id: int
    number: int
    callback_ref: str
    epoch: int
    sent_at: float
    outcome: str
    http_status: int | None
    correlation_id: str | None
    transcription_id: str | None


def open_next(tx: Connection, recording_id: int, *, callback_ref: str, epoch: int) -> int:
    """Writes the intent to send one POST, before its socket opens; gives the submission's id."""
    row = {"recording_id": recording_id, "callback_ref": callback_ref, "epoch": epoch}
    number = tx.execute(_NEXT_NUMBER, {"recording_id": recording_id}).scalar_one()
    result = tx.execute(_INSERT, {**row, "number": number, "sent_at": time.time(), "outcome": OPEN})
    key = result.inserted_primary_key
    assert key is not None  # noqa: S101 one row was inserted
    return int(key[0])


def settle(
    tx: Connection,
    submission_id: int,
    outcome: str,
    *,
    http_status: int | None = None,
    correlation_id: str | None = None,
    transcription_id: str | None = None,
) -> Submission:
    """Records what became of the POST, and gives it as it was before; nothing less overwrites an acceptance.

    A transcription id that another submission has already is left there: the API answered both with the same one.
    """
    values: dict[str, Any] = {"outcome": outcome, "settled_at": time.time()}
    if http_status is not None:
        values |= {"http_status": http_status, "correlation_id": correlation_id}
    if transcription_id is not None and by_transcription_id(tx, transcription_id) is None:
        values["transcription_id"] = transcription_id
    before = get(tx, submission_id)
    if before.outcome != ACCEPTED or outcome == ACCEPTED:
        change(tx, submissions, {"id": submission_id, "outcome": before.outcome}, values)
    return before


def get(tx: Connection, submission_id: int) -> Submission:
    """The submission of that id, which must exist."""
    return _from_row(tx.execute(_BY_ID, {"id": submission_id}).mappings().one())


def by_callback_ref(tx: Connection, callback_ref: str) -> Submission | None:
    """The submission that the callback ref was made for."""
    row = tx.execute(_BY_CALLBACK_REF, {"ref": callback_ref}).mappings().first()
    return _from_row(row) if row else None


def by_transcription_id(tx: Connection, transcription_id: str) -> Submission | None:
    """The submission that the API answered with this id."""
    row = tx.execute(_BY_TRANSCRIPTION_ID, {"id": transcription_id}).mappings().first()
    return _from_row(row) if row else None


def of_recording(tx: Connection, recording_id: int) -> list[Submission]:
    """The recording's submissions, oldest first."""
    rows = tx.execute(
        select(submissions).where(submissions.c.recording_id == recording_id).order_by(submissions.c.number)
    ).mappings()
    return [_from_row(row) for row in rows]


def _from_row(row: RowMapping) -> Submission:
    return Submission(
        id=row["id"],
        recording_id=row["recording_id"],
        number=row["number"],
        callback_ref=row["callback_ref"],
        epoch=row["epoch"],
        sent_at=row["sent_at"],
        outcome=row["outcome"],
        http_status=row["http_status"],
        correlation_id=row["correlation_id"],
        transcription_id=row["transcription_id"],
    )
