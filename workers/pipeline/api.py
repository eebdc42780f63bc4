"""The one way to call the API: token, permit, call, and what its answer tells the whole fleet."""

import time
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection

from workers.errors import CredentialsRejected, Halted, TokenRejected
from workers.genesys.tokens import AccessToken
from workers.ledger import controls
from workers.limits.guard import permitted
from workers.limits.limiter import Permit
from workers.model import CallClass, Lane, Recording
from workers.resources import Resources

log = structlog.get_logger(__name__)
T = TypeVar("T")

PROBE_EVERY_SECONDS: Final = 60.0


def call(
    resources: Resources,
    call_class: CallClass,
    send: Callable[[AccessToken, Permit], T],
    *,
    lane: Lane = Lane.BACKFILL,
    recording_id: int | None = None,
) -> T:
    """Makes one call with a fresh token and a permit; a 401 refreshes the token and repeats it once, with a new permit.

    Raises what `send` raises. A 429 closes the gate of the call class for the whole fleet, a run of outages too, and a
    refusal of the client itself (401 twice, 403) halts it in the ledger.
    """
    try:
        try:
            return _once(resources, call_class, send, lane)
        except TokenRejected:
            log.info("token_rejected", call_class=str(call_class))
        try:
            return _once(resources, call_class, send, lane)
        except TokenRejected as error:
            raise CredentialsRejected(
                "The API refused a fresh access token twice (401): check that the OAuth client of GENESYS_CLIENT_ID "
                "is active and that GENESYS_BASE_URL is its region.",
                error.status,
                error.code,
                error.correlation_id,
            ) from None
    except Halted as error:
        _halt(resources, call_class, error, recording_id)
        raise


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
    """Ends a halt that a call of this class brought about, after one of them went through."""
    with resources.ledger.read() as tx:
        standing = controls.halt(tx, resources.client_key)
    if standing is None or standing.call_class != call_class:
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


def _once(resources: Resources, call_class: CallClass, send: Callable[[AccessToken, Permit], T], lane: Lane) -> T:
    token = resources.tokens.get()
    with permitted(resources.limiter, call_class, lane=lane) as permit:
        try:
            return send(token, permit)
        except TokenRejected:
            resources.tokens.reject(token)
            raise


def _halt(resources: Resources, call_class: CallClass, error: Halted, recording_id: int | None) -> None:
    now = time.time()
    standing = controls.Halt(
        reason=type(error).__name__,
        detail=str(error),
        call_class=str(call_class),
        since=now,
        next_probe_at=now + PROBE_EVERY_SECONDS,
    )
    with resources.ledger.write() as tx:
        controls.set_halt(tx, resources.client_key, standing)
    log.error("submitting_halted", reason=standing.reason, detail=standing.detail, recording_id=recording_id)
