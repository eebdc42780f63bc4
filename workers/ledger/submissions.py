"""One row for each request that may have left; facts about it are recorded whoever learns them."""

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select
from sqlalchemy.engine import RowMapping

from workers.ledger.statements import among, change, insert_or_ignore, one_after_the_other
from workers.ledger.tables import double_acceptances, submissions

OPEN: Final = "open"
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
NOT_SENT: Final = "not_sent"
UNKNOWN: Final = "unknown"

_LATEST: Final = (
    select(submissions)
    .where(submissions.c.recording_id == bindparam("recording_id"))
    .order_by(submissions.c.number.desc())
    .limit(1)
)
_OTHERS: Final = submissions.alias("others")
_NEXT_NUMBER: Final = select(func.coalesce(func.max(_OTHERS.c.number), 0) + 1).where(
    _OTHERS.c.recording_id == bindparam("of_recording")
)
_INSERT: Final = insert(submissions).values(number=_NEXT_NUMBER.scalar_subquery())
_BY_ID: Final = select(submissions).where(submissions.c.id == bindparam("id"))
_LOCK: Final = _BY_ID.with_for_update(key_share=True)
_BY_CALLBACK_REF: Final = select(submissions).where(submissions.c.callback_ref == bindparam("ref"))
_BY_TRANSCRIPTION_ID: Final = select(submissions).where(submissions.c.transcription_id == bindparam("id"))
_DOUBLE: Final = select(double_acceptances.c.at).where(double_acceptances.c.transcription_id == bindparam("id"))
_OWNER: Final = (
    select(submissions.c.recording_id)
    .where(submissions.c.transcription_id == bindparam("id"))
    .union_all(
        select(double_acceptances.c.recording_id).where(double_acceptances.c.transcription_id == bindparam("id"))
    )
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that may have left, `sends` times; times are Unix seconds.

    `transcription_id` is what it was accepted as, `failed_at` when the API said that this transcription failed.
    """

    id: int
    recording_id: int
    number: int
    callback_ref: str
    epoch: int
    sent_at: float
    settled_at: float | None
    outcome: str
    http_status: int | None
    correlation_id: str | None
    transcription_id: str | None
    request_digest: bytes | None
    sends: int
    failed_at: float | None


def open_next(tx: Connection, recording_id: int, *, callback_ref: str, epoch: int, request_digest: bytes) -> int:
    """Writes the intent to send one POST, before its socket opens; gives the submission's id."""
    row = {"recording_id": recording_id, "callback_ref": callback_ref, "epoch": epoch, "request_digest": request_digest}
    result = tx.execute(_INSERT, {**row, "of_recording": recording_id, "sent_at": time.time(), "outcome": OPEN})
    key = result.inserted_primary_key
    assert key is not None  # noqa: S101 one row was inserted
    return int(key[0])


def reopen(tx: Connection, submission: Submission, *, epoch: int) -> None:
    """Writes the intent to send the same request once more, with the same callback ref."""
    values = {"outcome": OPEN, "epoch": epoch, "sent_at": time.time(), "sends": submission.sends + 1}
    change(tx, submissions, {"id": submission.id}, values)


def settle(
    tx: Connection,
    submission_id: int,
    outcome: str,
    *,
    http_status: int | None = None,
    correlation_id: str | None = None,
    transcription_id: str | None = None,
) -> Submission:
    """Records what became of the POST, and gives it as it is then; nothing less overwrites an acceptance.

    A request that was sent twice is not refused or unsent by what its second sending met: the first one's outcome is
    still unknown. A transcription id that another submission has already is left there: the API answered both with
    the same one. The first id of a submission stays.
    """
    if transcription_id is not None:
        one_after_the_other(tx, f"transcription {transcription_id}")
    before = _from_row(tx.execute(_LOCK, {"id": submission_id}).mappings().one())
    if before.outcome == ACCEPTED and outcome != ACCEPTED:
        return before
    if before.sends > 1 and outcome in (NOT_SENT, REFUSED):
        outcome = UNKNOWN
    known = before.outcome == ACCEPTED  # another proof of the same comes later
    if known and http_status is None and transcription_id in (None, before.transcription_id):
        return before
    values: dict[str, Any] = {"outcome": outcome, "settled_at": before.settled_at if known else time.time()}
    if http_status is not None:
        values |= {"http_status": http_status, "correlation_id": correlation_id}
    if transcription_id is not None and before.transcription_id is None and owner(tx, transcription_id) is None:
        values["transcription_id"] = transcription_id
    change(tx, submissions, {"id": submission_id}, values)
    return replace(before, **values)


def note_failed(tx: Connection, submission: Submission, transcription_id: str) -> None:
    """Records that the API says this transcription failed, if it is the one that the submission was accepted as."""
    if submission.transcription_id == transcription_id and submission.failed_at is None:
        change(tx, submissions, {"id": submission.id}, {"failed_at": time.time()})


def note_double(tx: Connection, submission: Submission, transcription_id: str) -> bool:
    """Records an acceptance beside the recording's own one; False when it is known already."""
    if tx.execute(_DOUBLE, {"id": transcription_id}).first() is not None:
        return False
    row = {"transcription_id": transcription_id, "recording_id": submission.recording_id}
    insert_or_ignore(tx, double_acceptances, [{**row, "submission_id": submission.id, "at": time.time()}])
    return True


def get(tx: Connection, submission_id: int) -> Submission:
    """The submission of that id, which must exist."""
    return _from_row(tx.execute(_BY_ID, {"id": submission_id}).mappings().one())


def latest(tx: Connection, recording_id: int) -> Submission | None:
    """The recording's newest submission, None when nothing was ever sent for it."""
    row = tx.execute(_LATEST, {"recording_id": recording_id}).mappings().first()
    return _from_row(row) if row else None


def by_callback_ref(tx: Connection, callback_ref: str) -> Submission | None:
    """The submission that the callback ref was made for."""
    row = tx.execute(_BY_CALLBACK_REF, {"ref": callback_ref}).mappings().first()
    return _from_row(row) if row else None


def by_transcription_id(tx: Connection, transcription_id: str) -> Submission | None:
    """The submission that the API answered with this id first."""
    row = tx.execute(_BY_TRANSCRIPTION_ID, {"id": transcription_id}).mappings().first()
    return _from_row(row) if row else None


def owner(tx: Connection, transcription_id: str) -> int | None:
    """The recording (its id) that the API accepted under this transcription id, None when it is new to the ledger."""
    found = tx.execute(_OWNER, {"id": transcription_id}).scalar()
    return None if found is None else int(found)


def of_recording(tx: Connection, recording_id: int) -> list[Submission]:
    """The recording's submissions, oldest first."""
    rows = tx.execute(
        select(submissions).where(submissions.c.recording_id == recording_id).order_by(submissions.c.number)
    ).mappings()
    return [_from_row(row) for row in rows]


def newest_accepted(tx: Connection) -> str | None:
    """The transcription id that was given to us last, None before the first."""
    accepted = select(submissions.c.transcription_id).where(submissions.c.transcription_id.is_not(None))
    return tx.execute(accepted.order_by(submissions.c.id.desc()).limit(1)).scalar()


def doubles_of(tx: Connection, recording_id: int) -> list[str]:
    """The transcription ids that were accepted beside the recording's own one, oldest first."""
    mine = select(double_acceptances.c.transcription_id).where(double_acceptances.c.recording_id == recording_id)
    return list(tx.execute(mine.order_by(double_acceptances.c.at)).scalars())


def accepted_among(tx: Connection, recording_ids: Collection[int]) -> set[int]:
    """Those of the recordings (ids, at most 500) for which something was accepted that has not been proved failed."""
    sure = submissions.c.outcome == ACCEPTED
    return _among(tx, recording_ids, sure & submissions.c.failed_at.is_(None)) | _doubled(tx, recording_ids)


def standing_ids(tx: Connection, recording_ids: Collection[int]) -> dict[int, str]:
    """The newest transcription id of each of the recordings (ids) that has one that has not been proved failed."""
    standing = submissions.c.transcription_id.is_not(None) & submissions.c.failed_at.is_(None)
    mine = select(submissions.c.recording_id, submissions.c.transcription_id).where(
        among(tx, submissions.c.recording_id, recording_ids), standing
    )
    return {row.recording_id: row.transcription_id for row in tx.execute(mine.order_by(submissions.c.number))}


def perhaps_accepted_among(tx: Connection, recording_ids: Collection[int]) -> set[int]:
    """As `accepted_among`, with those of which nobody knows whether something was accepted."""
    perhaps = submissions.c.outcome.in_((ACCEPTED, OPEN, UNKNOWN))
    return _among(tx, recording_ids, perhaps & submissions.c.failed_at.is_(None)) | _doubled(tx, recording_ids)


def _among(tx: Connection, recording_ids: Collection[int], condition: Any) -> set[int]:
    mine = select(submissions.c.recording_id).where(among(tx, submissions.c.recording_id, recording_ids), condition)
    return set(tx.execute(mine).scalars())


def _doubled(tx: Connection, recording_ids: Collection[int]) -> set[int]:
    mine = select(double_acceptances.c.recording_id).where(among(tx, double_acceptances.c.recording_id, recording_ids))
    return set(tx.execute(mine).scalars())


def _from_row(row: RowMapping) -> Submission:
    digest = row["request_digest"]
    return Submission(**{**row, "request_digest": None if digest is None else bytes(digest)})
