"""Looks after everything whose moment has passed: lost messages, expired leases, lost webhooks, late look-ups."""

import time
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy import Connection

from config import queues
from workers import dispatch
from workers.ledger import controls, events, leases, recordings, submissions
from workers.model import Lane, Reason, Recording, State
from workers.pipeline.api import closed_for
from workers.pipeline.clock import after
from workers.pipeline.events import UNINDEXED_SECONDS
from workers.pipeline.postpone import OUT_SECONDS
from workers.pipeline.pump import HOLDER
from workers.resources import Resources

log = structlog.get_logger(__name__)

LEASE_SECONDS: Final = 60.0
BATCH: Final = 200
#: The receiver sends the index task itself; an event this old has lost its message.
EVENT_IS_LATE_SECONDS: Final = 5.0
LONGEST_BACK_OFF_SECONDS: Final = 600.0
#: A look-up that was asked for is not asked for again before this long.
POLL_ASKED_SECONDS: Final = 120.0

_PIPELINE: Final = (queues.LIVE, queues.SUBMIT, queues.VALIDATE)


def sweep(resources: Resources, *, by: str) -> int:
    """Looks once at what is due, waiting events first, in bounded batches; gives how many rows it acted on.

    One process of the fleet at a time. Raises PartUnreachable without a broker: the rows come due again.
    """
    with resources.ledger.write() as tx:
        if not leases.take(tx, "sweep", HOLDER, LEASE_SECONDS):
            return 0
        late = events.recordings_with_waiting(tx, BATCH, time.time() - EVENT_IS_LATE_SECONDS)
    for recording_id, media_id in late:
        dispatch.send_index(recording_id, media_id)
    with resources.ledger.read() as tx:
        due = recordings.due(tx, time.time(), BATCH)
    by_state: dict[State, list[Recording]] = {}
    for recording in due:
        by_state.setdefault(recording.state, []).append(recording)
    # Validated ones first: workers take submits before look-ups, so their messages seldom wait in a queue for long.
    _resend(resources, by_state.get(State.VALIDATED, []) + by_state.get(State.QUEUED, []), by=by)
    with resources.ledger.write() as tx:
        for recording in by_state.get(State.SUBMITTING, []):
            _lease_over(tx, resources, recording, by=by)
        for recording in by_state.get(State.UNKNOWN, []):
            _park(tx, recording, by=by)
    _ask(resources, by_state.get(State.TRANSCRIBING, []), dispatch.send_poll, POLL_ASKED_SECONDS)
    _ask(resources, by_state.get(State.COMPLETED, []), dispatch.send_index, UNINDEXED_SECONDS)
    if due or late:
        log.info("swept", **{str(state): len(rows) for state, rows in by_state.items()}, late_events=len(late))
    return len(due) + len(late)


def _resend(resources: Resources, due: list[Recording], *, by: str) -> None:
    """Sends the rest of the chain again, unless the messages are all still there, with growing distance a row."""
    if not due:
        return
    gate = closed_for(resources)
    with resources.ledger.read() as tx:
        out = sum(recordings.outstanding(tx, lane) for lane in Lane)
        halted = controls.halt(tx, resources.client_key) is not None
    # No more messages can be missing than there are rows out without one in a queue: those in a worker's hands, and
    # the lost. Of a worker's hands the oldest are sent again for nothing, which does nothing.
    missing = max(0, out - dispatch.waiting_messages(_PIPELINE))
    again: list[Recording] = []
    with resources.ledger.write() as tx:
        for recording in due:
            if halted or gate > OUT_SECONDS or len(again) >= missing:
                recordings.amend(tx, recording, due_at=after(max(gate, OUT_SECONDS)))
                continue
            back_off = min(OUT_SECONDS * 2.0 ** min(recording.resends, 10), LONGEST_BACK_OFF_SECONDS)
            sent_again = recordings.resend(tx, recording, due_at=after(back_off), by=by)
            if sent_again:
                again.append(sent_again)
    if again:
        dispatch.send_steps(again)


def _lease_over(tx: Connection, resources: Resources, recording: Recording, *, by: str) -> None:
    """The worker that was to submit has not said what became of it: it may have been accepted."""
    detail = "The worker did not say what became of the submission."
    moved = recordings.move(
        tx,
        recording,
        State.UNKNOWN,
        by=by,
        reason=Reason.LEASE_EXPIRED,
        detail=detail,
        due_at=after(resources.settings.unknown_after_seconds),
        new_epoch=True,
    )
    if moved:
        for submission in submissions.of_recording(tx, recording.id):
            if submission.outcome == submissions.OPEN:
                submissions.settle(tx, submission.id, submissions.UNKNOWN)


def _park(tx: Connection, recording: Recording, *, by: str) -> None:
    if not any(event for event in events.waiting(tx, recording.id)):
        detail = "No callback proved the submission within the time set; a person decides."
        recordings.move(
            tx, recording, State.PARKED, by=by, reason=Reason.OUTCOME_UNKNOWN, detail=detail, new_epoch=True
        )


def _ask(resources: Resources, due: list[Recording], send: Callable[[int, str], None], again_after: float) -> None:
    with resources.ledger.write() as tx:
        asked = [recording for recording in due if recordings.amend(tx, recording, due_at=after(again_after))]
    for recording in asked:
        send(recording.id, recording.media_id)
