"""What a person does to a whole backfill: holds it, lets it go on, or stops what is not paid for."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sqlalchemy import Connection

from workers import dispatch
from workers.errors import InputError, PartUnreachable
from workers.ledger import course
from workers.ledger.states import UNSUBMITTED
from workers.ledger.tables import CANCELLED, PAUSED, RUNNING
from workers.model import State
from workers.pipeline.status import named
from workers.resources import Resources

#: Recordings that stop in one transaction: so many at first, more while that takes far less than 50 ms.
BATCH: Final = 500
LARGEST_BATCH: Final = 2000
QUICK_SECONDS: Final = 0.015
SLOW_SECONDS: Final = 0.04
#: Batches of one backfill that the sweep stops at a time: it has others to look after.
SWEPT_BATCHES: Final = 10


@dataclass(frozen=True, slots=True)
class Course:
    """How a backfill stands: `state` is running, paused or cancelled, `counts` its recordings by state.

    `changed` is False when it was on that course already; `unannounced` says why the workers could not be told.
    """

    backfill: str
    state: str
    counts: Counter[State]
    changed: bool = False
    unannounced: str | None = None

    @property
    def posting(self) -> int:
        """POSTs that may be on their way."""
        return self.counts[State.SUBMITTING]

    @property
    def paid(self) -> int:
        """Accepted ones whose transcripts are still to come or to be indexed."""
        return self.counts[State.TRANSCRIBING] + self.counts[State.COMPLETED]

    @property
    def doubtful(self) -> int:
        """Those that may have been accepted, or were and did not end."""
        return self.counts[State.UNKNOWN] + self.counts[State.PARKED]

    @property
    def waiting(self) -> int:
        """Those that nothing was accepted for, and that stop when the backfill does."""
        return sum(self.counts[state] for state in UNSUBMITTED)


@dataclass(slots=True)
class Stopped:
    """How many recordings have stopped so far, and how many went to another backfill that wants them.

    Those that went back wait for what they were accepted as before they were to be submitted once more; those that
    failed may have been.
    """

    cancelled: int = 0
    failed: int = 0
    back: int = 0
    handed_over: int = 0

    @property
    def total(self) -> int:
        return self.cancelled + self.failed + self.back + self.handed_over


def look(resources: Resources, name: str) -> Course:
    """How the backfill stands; raises InputError when there is none of that name."""
    with resources.ledger.read() as tx:
        target = named(tx, name)
        return Course(name, target.state, course.counts(tx, target.id))


def pause(resources: Resources, name: str) -> Course:
    """Has nothing of the backfill handed out or submitted from now on; what was submitted goes on. Safe to repeat.

    Raises InputError for one that was cancelled.
    """
    with resources.ledger.write() as tx:
        target = named(tx, name)
        changed = course.change_state(tx, target.id, (RUNNING,), PAUSED)
        if course.state_of(tx, target.id) == CANCELLED:
            raise InputError(
                f"{name} was cancelled: there is nothing left to pause, as `retroscribe status {name}` shows."
            )
    now = look(resources, name)
    return Course(name, now.state, now.counts, changed)


def resume(resources: Resources, name: str) -> Course:
    """Lets a paused backfill go on at once; safe to repeat. Raises InputError for one that was cancelled."""
    with resources.ledger.write() as tx:
        target = named(tx, name)
        changed = course.change_state(tx, target.id, (PAUSED,), RUNNING)
        if course.state_of(tx, target.id) == CANCELLED:
            raise InputError(
                f"{name} was cancelled, which `resume` does not take back: have its cancelled recordings begin anew "
                f"with `retroscribe retry {name} --state cancelled`, or send its list again under another name."
            )
        course.wake_validated(tx, target.id)
    unannounced = wake_pump()
    now = look(resources, name)
    return Course(name, now.state, now.counts, changed, unannounced)


def cancel(resources: Resources, name: str, *, by: str) -> Iterator[Stopped]:
    """Stops what the backfill has not paid for, for good, telling after each batch how far it is.

    The first thing to happen is that nothing more of it is submitted. What is paid for, or may be, goes on. A recording
    that another backfill asked for too becomes that one's. Safe to repeat and to interrupt: the sweep, or the same
    command again, finishes it.
    """
    with resources.ledger.write() as tx:
        target = named(tx, name)
        course.change_state(tx, target.id, (RUNNING, PAUSED), CANCELLED)
    so_far = Stopped()
    yield so_far
    for batch in _stop(resources, target.id, by=by):
        so_far.cancelled += batch.cancelled
        so_far.failed += batch.failed
        so_far.back += batch.back
        so_far.handed_over += batch.handed_over
        yield so_far


def finish_cancels(resources: Resources, *, by: str) -> int:
    """Stops what cancelled backfills still have: a command that was interrupted, and POSTs that were not accepted.

    Gives how many recordings it acted on; those that are left wait for the next time.
    """
    with resources.ledger.read() as tx:
        unfinished = course.unfinished(tx)
    batches = (one for target in unfinished for one in islice(_stop(resources, target, by=by), SWEPT_BATCHES))
    return sum(batch.total for batch in batches)


def reopen(tx: Connection, backfill_id: int, name: str, *, wanted: int | None = None) -> bool:
    """Lets a cancelled backfill run again because a person wants something of it; False when it was not cancelled.

    What else was cancelled stays so. Raises InputError while some of it, beside the recording (id) that is wanted, has
    not stopped yet: it would go on unasked.
    """
    if not course.change_state(tx, backfill_id, (CANCELLED,), RUNNING):
        return False
    if course.is_unfinished(tx, backfill_id, but=wanted):
        raise InputError(
            f"{name} was cancelled and not all of it has stopped yet: try again when `retroscribe cancel {name}` has "
            "ended, which may be repeated."
        )
    return True


def wake_pump() -> str | None:
    """Why the pump could not be asked to run now, None when it was; it runs by itself each second."""
    try:
        dispatch.send_pump()
    except PartUnreachable as error:
        return str(error)
    return None


def _stop(resources: Resources, backfill_id: int, *, by: str) -> Iterator[course.Batch]:
    """Batches until nothing is left: while one state is gone through, a task may bring a recording into another."""
    most = BATCH
    found = True
    while found:
        found = False
        for state in course.IN_TURN:
            last: int | None = 0
            while last is not None:
                began = time.monotonic()
                with resources.ledger.write() as tx:
                    batch = course.cancel_some(tx, backfill_id, state, after_id=last, most=most, by=by)
                last = batch.last
                if last is not None:
                    most = _next_size(most, time.monotonic() - began)
                if batch.total:
                    found = True
                    yield batch


def _next_size(most: int, took: float) -> int:
    """How many recordings the next batch may have after one that took so many seconds: others want to write too."""
    if took < QUICK_SECONDS:
        return min(2 * most, LARGEST_BATCH)
    return max(most // 2, BATCH) if took > SLOW_SECONDS else most
