"""What becomes of a recording whose step could not be done now: tried again soon, given back, or failed."""

import random
import time
from contextlib import suppress
from typing import Final, NoReturn

import structlog
from sqlalchemy import Connection

from workers.errors import Halted, LimiterUnavailable, Retryable
from workers.ledger import course, recordings
from workers.ledger.tables import CANCELLED, PAUSED, RUNNING
from workers.model import Reason, Recording, State
from workers.pipeline.api import closed_for
from workers.pipeline.clock import NOW, after
from workers.pipeline.finish import audit
from workers.pipeline.hours import hours, may_go
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: A longer delay is not waited for on a message: the row goes back and is handed out again when it is due.
LONGEST_COUNTDOWN_SECONDS: Final = 30.0
#: The sweep looks at a recording that is out this long after its message should have been worked on.
OUT_SECONDS: Final = 60.0
HALT_CHECK_SECONDS: Final = 60.0
#: Validated recordings of a paused backfill are due when it is resumed; the sweep looks at them this seldom before.
PAUSED_SECONDS: Final = 3600.0


class GivenBack(Exception):
    """The row waits in the ledger; the message is done with."""


def postpone(resources: Resources, recording: Recording, error: Retryable, *, by: str) -> NoReturn:
    """Raises the error with its delay for Celery to retry, or GivenBack when the ledger takes over.

    Attempts are counted in the row, and only for errors that say so: a 429 or an outage is not the recording's fault.
    """
    attempts = recording.attempts + int(error.burns_attempt)
    if attempts >= resources.settings.max_attempts:
        detail = f"{error} ({attempts} attempts)"
        with resources.ledger.write() as tx:
            moved = recordings.move(tx, recording, State.FAILED, by=by, reason=Reason.ATTEMPTS_EXHAUSTED, detail=detail)
            if moved:
                audit(moved)
        raise GivenBack
    delay = error.retry_after_seconds
    if delay is None:
        delay = _jitter(attempts)
        with suppress(LimiterUnavailable):  # trying again while a gate is closed would only come back here
            delay += closed_for(resources)
    if delay > LONGEST_COUNTDOWN_SECONDS:
        give_back(resources, recording, delay, reason=Reason.GIVEN_BACK, detail=str(error), by=by)
        raise GivenBack
    with resources.ledger.write() as tx:
        due_at = time.time() + delay + OUT_SECONDS
        recordings.amend(tx, recording, attempts=attempts, due_at=due_at, detail=str(error))
    error.retry_after_seconds = delay
    error.epoch = recording.epoch
    raise error


def _jitter(attempts: int) -> float:
    """Full jitter over 2, 4, 8 ... seconds."""
    return random.uniform(0.5, min(LONGEST_COUNTDOWN_SECONDS, 2.0 ** (attempts + 1)))  # noqa: S311


def halted(resources: Resources, recording: Recording, error: Halted, *, by: str) -> None:
    """Gives the row back until the halt is lifted; marks nothing as failed."""
    give_back(resources, recording, HALT_CHECK_SECONDS, reason=Reason.HALTED, detail=str(error), by=by)


def give_back(
    resources: Resources, recording: Recording, delay: float, *, reason: str, detail: str | None, by: str
) -> None:
    """Puts the row back to wait `delay` seconds and a little jitter: validated media stays validated."""
    due_at = time.time() + delay + random.uniform(0, min(5.0, delay / 10 + 0.1))  # noqa: S311 jitter
    with resources.ledger.write() as tx:
        _put_back(tx, recording, due_at, reason=reason, detail=detail, by=by)
    log.info("recording_given_back", recording_id=recording.id, reason=str(reason), delay_seconds=round(delay, 1))


def stands_still(resources: Resources, recording: Recording, *, by: str) -> bool:
    """Whether the backfill of a recording that is out is not to go now; gives the row back unless it is cancelled.

    The row of a cancelled one is stopped by who cancels it, or by the sweep.
    """
    if recording.backfill_state == RUNNING and may_go(recording.only_between, time.time()):
        return False
    with resources.ledger.write() as tx:
        return hold_back(tx, recording, by=by)


def hold_back(tx: Connection, recording: Recording, *, by: str) -> bool:
    """As `stands_still`, in the caller's write and by what the ledger says now."""
    behind = course.behind(tx, recording.id)
    if behind.state == CANCELLED:
        return True
    if behind.state == PAUSED:
        reason, until = Reason.PAUSED, after(PAUSED_SECONDS)
    elif behind.only_between is not None and not may_go(behind.only_between, time.time()):
        reason, until = Reason.QUIET_HOURS, hours(behind.only_between).opens_at(time.time())
    else:
        return False
    if recording.state == State.VALIDATED and recording.reason == reason:
        recordings.amend(tx, recording, due_at=until)
    else:
        due_at = NOW if recording.state == State.QUEUED else until
        _put_back(tx, recording, due_at, reason=reason, detail=None, by=by)
    return True


def _put_back(tx: Connection, recording: Recording, due_at: float, *, reason: str, detail: str | None, by: str) -> None:
    if recording.state == State.QUEUED:
        recordings.move(
            tx,
            recording,
            State.PENDING,
            by=by,
            reason=reason,
            detail=detail,
            due_at=due_at,
            attempts=recording.attempts,
            new_epoch=True,
        )
    elif recordings.amend(tx, recording, due_at=due_at, reason=reason, detail=detail):
        recordings.note(tx, recording, by=by, reason=reason, detail=detail)
