"""Looks after everything whose moment has passed: lost messages, expired leases, lost webhooks, late look-ups."""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from sqlalchemy import Connection

from config import queues
from workers import dispatch
from workers.ledger import controls, events, handout, recordings
from workers.ledger.states import SWEPT
from workers.ledger.tables import RUNNING
from workers.model import Lane, Recording, State
from workers.pipeline import acceptance, bounds, unknown
from workers.pipeline.alone import alone
from workers.pipeline.api import closed_for
from workers.pipeline.applying import UNINDEXED_SECONDS
from workers.pipeline.clock import after
from workers.pipeline.postpone import OUT_SECONDS, hold_back
from workers.pipeline.steering import finish_cancels
from workers.resources import Resources

log = structlog.get_logger(__name__)

LEASE_SECONDS: Final = 60.0
BATCH: Final = 200
#: The receiver sends the index task itself; an event this old has lost its message.
EVENT_IS_LATE_SECONDS: Final = 5.0
#: Recordings decided about in one transaction.
TOGETHER: Final = 50
LONGEST_BACK_OFF_SECONDS: Final = 600.0
#: A look-up that was asked for is not asked for again before this long.
POLL_ASKED_SECONDS: Final = 120.0

_PIPELINE: Final = (queues.LIVE, queues.SUBMIT, queues.VALIDATE)


def sweep(resources: Resources, *, by: str) -> int:
    """Looks once at what is due, waiting events first, in bounded batches; gives how many rows it acted on.

    One process of the fleet at a time. Raises PartUnreachable without a broker: the rows come due again.
    """
    acceptance.take_spooled(resources, by=by)  # before a lease that is over says that nobody knows
    with alone(resources, "sweep", LEASE_SECONDS) as mine:
        return _look(resources, by=by) if mine else 0


def _look(resources: Resources, *, by: str) -> int:
    with resources.ledger.read() as tx:
        late = events.recordings_with_waiting(tx, BATCH, time.time() - EVENT_IS_LATE_SECONDS)
    for recording_id, media_id in late[: _room(queues.INDEX)] if late else ():
        dispatch.send_index(recording_id, media_id)
    stopped = finish_cancels(resources, by=by)
    with resources.ledger.read() as tx:
        due = {state: recordings.due(tx, state, time.time(), BATCH) for state in SWEPT}
    # Validated ones first: workers take submits before look-ups, so their messages seldom wait in a queue for long.
    _resend(resources, due[State.VALIDATED] + due[State.QUEUED], by=by)
    _each(resources, due[State.SUBMITTING], partial(unknown.lease_over, by=by))
    _each(resources, due[State.UNKNOWN], partial(unknown.decide, by=by))
    _ask(resources, due[State.TRANSCRIBING], queues.POLL, dispatch.send_poll, POLL_ASKED_SECONDS)
    _ask(resources, due[State.COMPLETED], queues.INDEX, dispatch.send_index, UNINDEXED_SECONDS)
    figures = {str(state): len(rows) for state, rows in due.items() if rows}
    if figures or late or stopped:
        log.info("swept", **figures, late_events=len(late), cancelled=stopped)
    return sum(figures.values()) + len(late) + stopped


def _resend(resources: Resources, due: list[Recording], *, by: str) -> None:
    """Sends the rest of the chain again, unless the messages are all still there, with growing distance a row."""
    if not due:
        return
    gate = closed_for(resources)
    with resources.ledger.read() as tx:
        closed = bounds.closed(tx)
        out = sum(one.number for lane in Lane for one in handout.out(tx, lane, closed).values())
        halted = controls.halt(tx, resources.client_key) is not None
    # No more messages can be missing than there are rows out without one in a queue: those in a worker's hands, and
    # the lost. Of a worker's hands the oldest are sent again for nothing, which does nothing.
    missing = max(0, out - dispatch.waiting_messages(_PIPELINE))
    again: list[Recording] = []
    with resources.ledger.write() as tx:
        for recording in due:
            if (recording.backfill_state != RUNNING or recording.only_between) and hold_back(tx, recording, by=by):
                continue
            if halted or gate > OUT_SECONDS or len(again) >= missing:
                recordings.amend(tx, recording, due_at=after(max(gate, OUT_SECONDS)))
                continue
            back_off = min(OUT_SECONDS * 2.0 ** min(recording.resends, 10), LONGEST_BACK_OFF_SECONDS)
            sent_again = recordings.resend(tx, recording, due_at=after(back_off), by=by)
            if sent_again:
                again.append(sent_again)
    if again:
        dispatch.send_steps(again)


def _each(resources: Resources, due: list[Recording], act: Callable[[Connection, Resources, Recording], None]) -> None:
    """Decides about each recording, some dozens a transaction: others want to write too."""
    for start in range(0, len(due), TOGETHER):
        with resources.ledger.write() as tx:
            for recording in due[start : start + TOGETHER]:
                act(tx, resources, recording)


def _ask(
    resources: Resources, due: list[Recording], queue: str, send: Callable[[int, str], None], again_after: float
) -> None:
    """Sends a message for each as long as the queue has room; those left over stay due."""
    if not due or not (room := _room(queue)):
        return
    with resources.ledger.write() as tx:
        asked = [one for one in due[:room] if recordings.amend(tx, one, due_at=after(again_after))]
    for recording in asked:
        send(recording.id, recording.media_id)


def _room(queue: str) -> int:
    """How many more messages the queue should hold: what is asked for faster than it is done would pile up."""
    return max(0, BATCH - dispatch.waiting_messages([queue]))
