"""Asks the API how a transcription stands, for when no webhook came."""

import time
from http import HTTPStatus
from typing import Final

import structlog
from sqlalchemy import Connection

from workers import dispatch
from workers.errors import Halted, Retryable, StatusUnavailable
from workers.genesys.events import stored_event
from workers.ledger import controls, events, recordings, submissions
from workers.model import CallClass, Reason, Recording, State
from workers.pipeline import api
from workers.pipeline.postpone import HALT_CHECK_SECONDS
from workers.pipeline.way_back import learn, worth_asking
from workers.resources import Resources

log = structlog.get_logger(__name__)

LONGEST_INTERVAL_SECONDS: Final = 3600.0
_ENDED: Final = ("completed", "failed")


def poll(resources: Resources, recording_id: int, *, by: str) -> None:
    """Looks up an accepted recording once; an ended one goes through the inbox like a webhook, another waits longer.

    Past its deadline it is parked as overdue, once a look-up was answered after it or the API has no status route.
    Raises Retryable when the look-up should be tried again soon.
    """
    with resources.ledger.read() as tx:
        recording = recordings.get(tx, recording_id)
        asks = worth_asking(tx, resources)
    if recording is None or recording.state != State.TRANSCRIBING or recording.transcription_id is None:
        return
    if not asks:
        _wait(resources, recording, "The API has no status route, so only a webhook can end it.", by=by)
        return
    transcription_id = recording.transcription_id
    try:
        status = api.call(
            resources,
            CallClass.STATUS,
            lambda token, _permit: resources.client.get_transcription(token, transcription_id),
            lane=recording.lane,
            recording_id=recording.id,
        )
    except StatusUnavailable as error:
        _no_status(resources, recording, error, by=by)
        return
    except Halted as error:
        _wait(resources, recording, str(error), by=by, at_least=HALT_CHECK_SECONDS, answered=False)
        return
    except Retryable as error:
        _wait(resources, recording, str(error), by=by, at_least=error.retry_after_seconds or 0, answered=False)
        return
    api.lift_halt(resources, CallClass.STATUS)
    learn(resources, works=True, why="HTTP 200")
    if status.status in _ENDED and (status.status == "failed" or status.transcript is not None):
        packed = events.pack(stored_event(status))
        with resources.ledger.write() as tx:
            _store(tx, recording, packed, status.status, has_result=status.transcript is not None)
        dispatch.send_index(recording.id, recording.media_id)
    else:
        _wait(resources, recording, f"The API says {status.status}.", by=by)


def ask_route(resources: Resources) -> None:
    """Finds out whether the API has a status route, if that is not known and a transcription is there to be looked up.

    Raises what `api.call` raises.
    """
    with resources.ledger.read() as tx:
        route = controls.status_route(tx, resources.client_key)
        accepted = submissions.newest_accepted(tx)
    if accepted is None or (route is not None and route.works):
        return
    try:
        api.call(
            resources,
            CallClass.STATUS,
            lambda token, _permit: resources.client.get_transcription(token, accepted),
        )
    except StatusUnavailable as error:
        if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
            learn(resources, works=False, why=str(error))
        return
    learn(resources, works=True, why="HTTP 200")


def _no_status(resources: Resources, recording: Recording, error: StatusUnavailable, *, by: str) -> None:
    """A 405, or a second 404 on an id that we were given, where no look-up ever succeeded: there is no such route."""
    with resources.ledger.read() as tx:
        proved = (route := controls.status_route(tx, resources.client_key)) is not None and route.works
    good = recording.reason != Reason.ADOPTED  # a person may have mistyped it
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED or (good and not proved and recording.polls > 0):
        learn(resources, works=False, why=str(error))
    _wait(resources, recording, str(error), by=by)


def _store(tx: Connection, recording: Recording, packed: bytes, status: str, *, has_result: bool) -> None:
    present = recordings.lock(tx, recording.id)
    if present is None or present.state == State.FORGOTTEN:
        return  # while it was looked up
    sent = submissions.of_recording(tx, recording.id)
    current = [one for one in sent if one.transcription_id == recording.transcription_id] or sent
    arrival = events.Arrival(
        callback_ref=current[-1].callback_ref,
        recording_id=recording.id,
        transcription_id=recording.transcription_id or "",
        type=f"transcription.{status}",
        packed=packed,
        has_result=has_result,
    )
    if not events.store(tx, arrival) and (present.state, present.epoch) == (State.TRANSCRIBING, recording.epoch):
        events.renew(tx, arrival)  # it was put aside while another transcription was the present one


def _wait(
    resources: Resources, recording: Recording, detail: str, *, by: str, at_least: float = 0, answered: bool = True
) -> None:
    """Sets the next look-up, or parks the recording when an answer after its deadline brought no end."""
    now = time.time()
    deadline = (recording.accepted_at or now) + resources.settings.deadline_hours * 3600
    with resources.ledger.write() as tx:
        if now >= deadline and answered and not events.is_waiting(tx, recording.id):
            parked = recordings.move(tx, recording, State.PARKED, by=by, reason=Reason.OVERDUE, detail=detail)
            if parked:
                ids = {"recording_id": recording.id, "transcription_id": recording.transcription_id}
                log.warning("recording_parked", reason=str(Reason.OVERDUE), **ids)
            return
        doubled = resources.settings.effective_poll_after_seconds * 2.0 ** min(recording.polls, 16)
        interval = max(min(doubled, LONGEST_INTERVAL_SECONDS), at_least)
        due_at = now + interval if now >= deadline else min(now + interval, deadline + 1)
        polls = recording.polls + int(answered)
        recordings.amend(tx, recording, polls=polls, due_at=due_at, detail=detail)
