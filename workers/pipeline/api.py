"""The one way to call the API: token, permit, call, and what its answer tells the whole fleet."""

import time
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection

from workers.errors import (
    ApiUnavailable,
    ApiUnreachable,
    CredentialsRejected,
    Halted,
    MediaNotFound,
    RateLimited,
    TokenRejected,
)
from workers.genesys.tokens import AccessToken
from workers.ledger import controls, recordings
from workers.limits.guard import permitted
from workers.limits.limiter import Permit
from workers.model import CallClass, Lane, Recording
from workers.resources import Resources

log = structlog.get_logger(__name__)
T = TypeVar("T")

PROBE_EVERY_SECONDS: Final = 60.0
#: The look-up before the first submission after an outage waits this long for its permit.
LOOK_FIRST_SECONDS: Final = 5.0


def call(
    resources: Resources,
    call_class: CallClass,
    send: Callable[[AccessToken, Permit], T],
    *,
    lane: Lane = Lane.BACKFILL,
    recording_id: int | None = None,
) -> T:
    """Makes one call with a fresh token and a permit; a 401 refreshes the token and repeats it once, with a new permit.

    Raises what `send` raises. A 429 closes the gate of the call class for the whole fleet, calls that fail do too, and
    a refusal of the client itself (401 twice, 403) halts it in the ledger: Halted is raised at once then.
    """
    _refuse_while_halted(resources, call_class, recording_id)
    try:
        return _once(resources, call_class, send, lane, recording_id)
    except TokenRejected:
        log.info("token_rejected", call_class=str(call_class))
    try:
        return _once(resources, call_class, send, lane, recording_id)
    except TokenRejected as error:
        refused = _refused_twice(error)
    _halt(resources, call_class, refused, recording_id)
    raise refused


def ask(
    resources: Resources,
    call_class: CallClass,
    send: Callable[[AccessToken, Permit], T],
    *,
    max_wait_seconds: float,
) -> T:
    """As `call`, without the ledger: for a question that is no recording's, which no halt stops and which makes none.

    Limits, gates and the access token are the fleet's. Waits at most so long for the permit; raises what `call` raises.
    """
    try:
        return _asked(resources, call_class, send, max_wait_seconds)
    except TokenRejected:
        log.info("token_rejected", call_class=str(call_class))
    try:
        return _asked(resources, call_class, send, max_wait_seconds)
    except TokenRejected as error:
        raise _refused_twice(error) from None


class Leave(Enum):
    """Whether a recording may go to the API while a halt may stand."""

    CLEAR = "clear"
    PROBE = "probe"
    HALTED = "halted"


def leave(tx: Connection, resources: Resources, recording: Recording) -> Leave:
    """HALTED while the API client is halted, PROBE for the one recording that finds out whether it still is."""
    standing = controls.halt(tx, resources.client_key)
    if standing is None:
        return Leave.CLEAR
    return Leave.PROBE if standing.probe_recording_id == recording.id else Leave.HALTED


def lift_halt(resources: Resources, call_class: CallClass) -> None:
    """Ends a halt that a call of this class or the lack of a token brought about, after one of them went through."""
    with resources.ledger.read() as tx:
        standing = controls.halt(tx, resources.client_key)
    if standing is None or standing.call_class not in (call_class, CallClass.TOKEN):
        return
    with resources.ledger.write() as tx:
        controls.lift_halt(tx, resources.client_key)
    log.info("halt_lifted", reason=standing.reason)


def closed_for(resources: Resources) -> float:
    """Seconds for which no recording can get through all its calls: the farthest gate among their classes.

    Raises LimiterUnavailable when Redis is down.
    """
    classes = (CallClass.MEDIA, CallClass.SUBMIT, CallClass.TOKEN)
    return max(resources.limiter.snapshot(call_class).gate_seconds for call_class in classes)


def _refuse_while_halted(resources: Resources, call_class: CallClass, recording_id: int | None) -> None:
    """Raises Halted unless this recording is the probe.

    Look-ups of what has been paid for go on. Without a token they can't; then they ask for one when there is nothing
    to submit that could.
    """
    with resources.ledger.read() as tx:
        standing = controls.halt(tx, resources.client_key)
    if standing is None or standing.probe_recording_id == recording_id:
        return
    tokens = standing.call_class != CallClass.TOKEN or controls.probe_due(standing)
    if call_class != CallClass.STATUS or not tokens:
        raise Halted(standing.detail)


def _once(
    resources: Resources,
    call_class: CallClass,
    send: Callable[[AccessToken, Permit], T],
    lane: Lane,
    recording_id: int | None,
) -> T:
    token = _token(resources, recording_id)
    try:
        with permitted(resources.limiter, call_class, lane=lane) as permit:
            if permit.after_outage and call_class == CallClass.SUBMIT and recording_id is not None:
                _look_first(resources, token, lane, recording_id)
            return send(token, permit)
    except TokenRejected:
        resources.tokens.reject(token)
        raise
    except Halted as error:
        _halt(resources, call_class, error, recording_id)
        raise


def _asked(
    resources: Resources, call_class: CallClass, send: Callable[[AccessToken, Permit], T], max_wait_seconds: float
) -> T:
    token = resources.tokens.get()
    try:
        with permitted(resources.limiter, call_class, max_wait_seconds=max_wait_seconds) as permit:
            return send(token, permit)
    except TokenRejected:
        resources.tokens.reject(token)
        raise


def _token(resources: Resources, recording_id: int | None) -> AccessToken:
    try:
        return resources.tokens.get()
    except Halted as error:
        _halt(resources, CallClass.TOKEN, error, recording_id)
        raise


def _look_first(resources: Resources, token: AccessToken, lane: Lane, recording_id: int) -> None:
    """Makes a safe call before the first submission after an outage: an API that is still down costs no recording then.

    Raises ApiUnreachable when it fails and RateLimited when it can't be made now; nothing is submitted then.
    """
    with resources.ledger.read() as tx:
        recording = recordings.get(tx, recording_id)
    if recording is None:
        return
    try:
        with permitted(resources.limiter, CallClass.MEDIA, lane=lane, max_wait_seconds=LOOK_FIRST_SECONDS):
            resources.client.get_media(token, recording.media_id)
    except MediaNotFound:
        return  # it answers; what it thinks of the recording is for the submission to say
    except ApiUnavailable as error:
        detail = f"Nothing was submitted, because the API still fails: {error}"
        raise ApiUnreachable(detail, error.status, error.code, error.correlation_id) from None
    except RateLimited as error:
        resources.limiter.close_gate(CallClass.SUBMIT, error.retry_after_seconds or 1.0, "failing")
        raise RateLimited(f"Nothing was submitted: {error}", error.retry_after_seconds) from None


def _refused_twice(error: TokenRejected) -> CredentialsRejected:
    return CredentialsRejected(
        "The API refused a fresh access token twice (401): check that the OAuth client of GENESYS_CLIENT_ID "
        "is active and that GENESYS_BASE_URL is its region.",
        error.status,
        error.code,
        error.correlation_id,
    )


def _halt(resources: Resources, call_class: CallClass, error: Halted, recording_id: int | None) -> None:
    """Halts the API client; what the calls find that were under way already changes nothing.

    A refused status look-up halts nobody: the server may grant none, and the next submission finds out the rest.
    """
    if call_class == CallClass.STATUS:
        return
    now = time.time()
    new = controls.Halt(
        reason=type(error).__name__,
        detail=str(error),
        call_class=str(call_class),
        since=now,
        next_probe_at=now + PROBE_EVERY_SECONDS,
    )
    with resources.ledger.write() as tx:
        standing = controls.halt(tx, resources.client_key)
        if standing and standing.probe_recording_id != recording_id and not controls.probe_due(standing):
            return
        controls.set_halt(tx, resources.client_key, new)
    log.error("submitting_halted", reason=new.reason, detail=new.detail, recording_id=recording_id)
