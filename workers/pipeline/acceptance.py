"""Facts about what was paid for: recorded whoever learns them, and kept in a file while the ledger is down."""

import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection

from workers.errors import LedgerUnavailable
from workers.ledger import recordings, spending, submissions
from workers.ledger.states import BEFORE_COMPLETED
from workers.model import Reason, Recording, State
from workers.pipeline import way_back
from workers.pipeline.clock import after
from workers.resources import Resources

log = structlog.get_logger(__name__)

_KEPT: Final = "*.json"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The API accepted the submission with this callback ref under this transcription id."""

    callback_ref: str
    transcription_id: str
    http_status: int | None = None
    correlation_id: str | None = None


def record(tx: Connection, resources: Resources, fact: Acceptance, *, by: str, reason: str | None = None) -> bool:
    """Records an acceptance, whatever has become of the recording meanwhile; False when no submission has its ref.

    From every state before `completed` the recording is transcribing then, unless it has an accepted transcription
    already: then another id is noted as a double acceptance. A forgotten recording stays forgotten.
    """
    submission = submissions.by_callback_ref(tx, fact.callback_ref)
    if submission is None:
        return False
    recording = recordings.lock(tx, submission.recording_id)
    assert recording is not None  # noqa: S101 rows are never deleted
    new = recording.transcription_id is not None and submissions.owner(tx, fact.transcription_id) is None
    if submission.outcome in (submissions.NOT_SENT, submissions.REFUSED):
        spending.count_again(tx, recording, submission.epoch)
    submission = submissions.settle(
        tx,
        submission.id,
        submissions.ACCEPTED,
        http_status=fact.http_status,
        correlation_id=fact.correlation_id,
        transcription_id=fact.transcription_id,
    )
    failed = submission.failed_at is not None and submission.transcription_id == fact.transcription_id
    if recording.transcription_id == fact.transcription_id or failed:
        return True
    if recording.transcription_id is None and recording.state in BEFORE_COMPLETED:
        _transcribing(tx, resources, recording, fact.transcription_id, by=by, reason=reason)
    elif recording.transcription_id is None and recording.state == State.FORGOTTEN:
        recordings.amend(tx, recording, transcription_id=fact.transcription_id)
    elif new and submissions.note_double(tx, submission, fact.transcription_id):
        detail = f"The API accepted it again as {fact.transcription_id}, beside {recording.transcription_id}."
        recordings.note(tx, recording, by=by, reason=Reason.ACCEPTED_TWICE, detail=detail)
        log.error("recording_accepted_twice", recording_id=recording.id, transcription_id=fact.transcription_id)
    return True


def _transcribing(
    tx: Connection, resources: Resources, recording: Recording, transcription_id: str, *, by: str, reason: str | None
) -> None:
    recordings.move(
        tx,
        recording,
        State.TRANSCRIBING,
        by=by,
        reason=reason,
        due_at=after(way_back.first_look_seconds(tx, resources)),
        new_epoch=True,
        transcription_id=transcription_id,
        polls=0,
    )


def spool(home: Path, fact: Acceptance) -> Path:
    """Keeps a fact that the ledger can't take now in a file of the home; when this returns, it survives a power cut."""
    folder = spool_folder(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{fact.callback_ref}.json"
    draft = folder / f".{path.name}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(fact), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return path


def take_spooled(resources: Resources, *, by: str) -> int:
    """Records what lies in this machine's spool and removes it; gives how many facts there were. Safe to repeat.

    A file that can't be used is set aside with the ending `.unusable` and a line in the log. Raises LedgerUnavailable.
    """
    taken = 0
    for path in sorted(spool_folder(resources.settings.home).glob(_KEPT)):
        try:
            fact = Acceptance(**json.loads(path.read_text()))
        except FileNotFoundError:
            continue  # another process was first
        except (OSError, ValueError, TypeError):
            _set_aside(path, "it is not what was written there")
            continue
        with resources.ledger.write() as tx:
            known = record(tx, resources, fact, by=by)
        if known:
            path.unlink(missing_ok=True)
            taken += 1
            log.warning("acceptance_taken_from_spool", transcription_id=fact.transcription_id)
        else:
            _set_aside(path, "this ledger has no submission with its callback ref")
    return taken


def keep_trying(resources: Resources, fact: Acceptance, *, by: str, seconds: float) -> None:
    """Records an acceptance, from the first failure on with a copy in the spool, for as long as that.

    When time is up, or the process is asked to stop, the spool has it: the next sweep on this machine, or the next
    worker that starts or submits here, records it.
    """
    kept: Path | None = None
    ends = time.monotonic() + seconds
    while True:
        try:
            with resources.ledger.write() as tx:
                record(tx, resources, fact, by=by)
        except LedgerUnavailable:
            kept = kept or _spooled(resources, fact)
            if time.monotonic() > ends or (kept and resources.stopping.is_set()):
                ids = {"callback_ref": fact.callback_ref, "transcription_id": fact.transcription_id}
                log.critical("acceptance_not_in_the_ledger_yet", spooled=bool(kept), **ids)
                return
        else:
            if kept:
                kept.unlink(missing_ok=True)
            return
        if resources.stopping.wait(1):
            time.sleep(1)


def _spooled(resources: Resources, fact: Acceptance) -> Path | None:
    try:
        return spool(resources.settings.home, fact)
    except OSError as error:  # most likely the disk that the ledger lies on is full
        ids = {"callback_ref": fact.callback_ref, "transcription_id": fact.transcription_id}
        log.critical("acceptance_not_spooled", error=error.strerror, **ids)
        return None


def _set_aside(path: Path, why: str) -> None:
    path.replace(path.with_suffix(".unusable"))
    log.error("spooled_acceptance_unusable", file=str(path.with_suffix(".unusable")), detail=why)


def spool_folder(home: Path) -> Path:
    """Where this machine keeps what the ledger could not take; what it can never take ends in `.unusable`."""
    return home / "spool"
