"""Keeps about 30 s of work in the queues: the backlog lives in the ledger, not in the broker."""

import time
from dataclasses import replace
from typing import Final

import structlog
from sqlalchemy import Connection

from workers import dispatch
from workers.errors import PartUnreachable
from workers.ledger import controls, recordings
from workers.model import CallClass, Lane, Reason, Recording, State
from workers.pipeline.alone import alone
from workers.pipeline.api import PROBE_EVERY_SECONDS, closed_for
from workers.pipeline.clock import NOW, after
from workers.pipeline.limit import put_in_force
from workers.pipeline.postpone import OUT_SECONDS
from workers.pipeline.way_back import WayBack, way_back
from workers.resources import Resources

log = structlog.get_logger(__name__)

LEASE_SECONDS: Final = 30.0
WINDOW_SECONDS: Final = 30.0
SMALLEST_WINDOW: Final = 200
BATCH: Final = 500
#: Work for a class whose gate is farther away than this would only wait in the workers.
GATE_TOO_FAR_SECONDS: Final = 30.0

#: States in which a recording may still show that its result comes back.
UNDER_WAY: Final = frozenset({State.QUEUED, State.VALIDATED, State.SUBMITTING, State.TRANSCRIBING})


def pump(resources: Resources, *, by: str) -> int:
    """Hands out waiting recordings up to the window of each lane, live first; gives how many were sent.

    One process of the fleet at a time: another one's run makes this one do nothing.
    """
    with alone(resources, "pump", LEASE_SECONDS) as mine:
        return _hand_out(resources, by=by) if mine else 0


def _hand_out(resources: Resources, *, by: str) -> int:
    put_in_force(resources)
    with resources.ledger.read() as tx:
        standing = controls.halt(tx, resources.client_key)
        way = way_back(tx, resources)
    if way == WayBack.NONE:
        return 0
    if standing is not None:
        return _probe(resources, standing, by=by) if controls.probe_due(standing) else 0
    if closed_for(resources) > GATE_TOO_FAR_SECONDS:
        return 0
    if way == WayBack.UNPROVED:
        return _prove(resources, by=by)
    sent = _fill(resources, Lane.LIVE, SMALLEST_WINDOW, by=by)
    rate = resources.limiter.snapshot(CallClass.SUBMIT).rate
    return sent + _fill(resources, Lane.BACKFILL, max(SMALLEST_WINDOW, int(WINDOW_SECONDS * rate)), by=by)


def _prove(resources: Resources, *, by: str) -> int:
    """Hands out a single recording, whose status look-up shows whether results can be fetched at all."""
    with resources.ledger.read() as tx:
        if recordings.is_any_under_way(tx, UNDER_WAY):
            return 0
    return _fill(resources, Lane.LIVE, 1, by=by) or _fill(resources, Lane.BACKFILL, 1, by=by)


def _fill(resources: Resources, lane: Lane, window: int, *, by: str) -> int:
    """Hands out one lane's recordings, an equal share to each running backfill that has some."""
    with resources.ledger.write() as tx:
        out = sum(one.number for one in recordings.out(tx, lane).values())
        room = min(window - out, BATCH)
        waiting = recordings.waiting_backfills(tx, lane) if room > 0 else []
        handed_out: list[Recording] = []
        for position, backfill_id in enumerate(waiting):
            share = -(-(room - len(handed_out)) // (len(waiting) - position))
            if share > 0:
                due_at = after(OUT_SECONDS)
                handed_out += recordings.hand_out(tx, lane, backfill_id, share, by=by, due_at=due_at)
    return _send(handed_out)


def _probe(resources: Resources, standing: controls.Halt, *, by: str) -> int:
    """Lets one recording find out whether the halt can be lifted."""
    with resources.ledger.write() as tx:
        probe = recordings.oldest_unsubmitted(tx)
        if probe is not None and standing.call_class == CallClass.MEDIA:
            probe = _to_be_looked_up(tx, probe, by=by)
        if probe is not None and probe.state == State.PENDING:
            probe = recordings.hand_out_one(tx, probe, by=by, due_at=after(OUT_SECONDS))
        elif probe is not None:
            probe = recordings.resend(tx, probe, by=by, due_at=after(OUT_SECONDS))
        if probe is None:
            return 0
        next_probe_at = time.time() + PROBE_EVERY_SECONDS
        chosen = replace(standing, next_probe_at=next_probe_at, probe_recording_id=probe.id)
        controls.set_halt(tx, resources.client_key, chosen)
    log.info("halt_probed", recording_id=probe.id, reason=standing.reason)
    return _send([probe])


def _to_be_looked_up(tx: Connection, probe: Recording, *, by: str) -> Recording | None:
    """The probe at its first step, because look-ups are what was refused; None when it has moved on.

    One that is to be submitted again as it was must stay what it is.
    """
    if probe.state != State.VALIDATED or probe.repeats is not None:
        return probe
    return recordings.move(tx, probe, State.PENDING, by=by, reason=Reason.HALTED, due_at=NOW, new_epoch=True)


def _send(handed_out: list[Recording]) -> int:
    out = [recording for recording in handed_out if recording.state in (State.QUEUED, State.VALIDATED)]
    if not out:
        return 0
    try:
        sent = dispatch.send_steps(out)
    except PartUnreachable as error:
        log.warning("hand_out_unsent", detail=str(error))  # the sweep sends them when they are due
        return 0
    log.info("recordings_handed_out", count=sent)
    return sent
