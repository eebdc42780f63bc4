"""Keeps about 30 s of work in the queues: the backlog lives in the ledger, not in the broker."""

import math
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection

from workers import dispatch
from workers.errors import PartUnreachable
from workers.ledger import canaries, controls, handout, recordings
from workers.model import CallClass, Lane, Reason, Recording, State
from workers.pipeline import bounds
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
    bounds.decide(resources)
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
        if recordings.is_any_under_way(tx, UNDER_WAY, bounds.closed(tx)):
            return 0
    return _fill(resources, Lane.LIVE, 1, by=by) or _fill(resources, Lane.BACKFILL, 1, by=by)


def _fill(resources: Resources, lane: Lane, window: int, *, by: str) -> int:
    """Hands out one lane's recordings so that each running backfill has as many out as the others, if it has some."""
    handed_out: list[Recording] = []
    with resources.ledger.write() as tx:
        waiting, room = _turns(tx, lane, window)
        while waiting and len(handed_out) < room:
            order = _order(waiting, room - len(handed_out))
            shares, rows = Counter(order), {}
            only = {turn.backfill_id: turn.only for turn in waiting}
            for one, share in shares.items():
                got = handout.hand_out(tx, lane, one, share, by=by, due_at=after(OUT_SECONDS), only=only[one])
                rows[one] = iter(got)
                if len(got) < share:
                    waiting = [turn for turn in waiting if turn.backfill_id != one]
            handed_out += [row for one in order for row in islice(rows[one], 1)]
            waiting = [turn.after(shares[turn.backfill_id]) for turn in waiting if turn.most > shares[turn.backfill_id]]
    return _send(handed_out)


class _Turn(NamedTuple):
    """Whose turn it is, the smallest first: who has the fewest out, then who was served longest ago, then by lot.

    At most so many recordings of it may go, and of a canary only those (ids).
    """

    out: int
    served_at: float
    lot: float
    backfill_id: int
    most: float = math.inf
    only: Sequence[int] | None = None

    def after(self, share: int) -> "_Turn":
        """The turn once so many of its recordings have been handed out."""
        return self._replace(out=self.out + share, most=self.most - share)


def _turns(tx: Connection, lane: Lane, window: int) -> tuple[list[_Turn], int]:
    """The backfills that have something to hand out now, and for how many recordings there is room."""
    closed = bounds.closed(tx)
    out = handout.out(tx, lane, closed)
    room = min(window - sum(one.number for one in out.values()), BATCH)
    waiting = handout.waiting_backfills(tx, lane) if room > 0 else []
    turns = []
    for one in (one for one in waiting if one.id not in closed):
        has = out.get(one.id, handout.Out(0, 0.0))
        turn = _Turn(has.number, has.newest_at, random.random(), one.id)  # noqa: S311 a lot
        if one.canary_state == canaries.FLYING:
            ready = canaries.ready(tx, one.id, lane, time.time())
            turn = turn._replace(most=len(ready), only=ready)
        if turn.most:
            turns.append(turn)
    return turns, room


def _order(waiting: Iterable[_Turn], room: int) -> list[int]:
    """The backfills (ids) in the order in which their recordings are to be sent, one for each.

    As messages are worked on in their order, who has as many out as the others is served as fast as they are, however
    small the room is each time.
    """
    turns = list(waiting)
    heapify(turns)
    order: list[int] = []
    while turns and len(order) < room:
        first = turns[0]
        order.append(first.backfill_id)
        if first.most > 1:
            heapreplace(turns, first.after(1)._replace(served_at=math.inf))
        else:
            heappop(turns)
    return order


def _probe(resources: Resources, standing: controls.Halt, *, by: str) -> int:
    """Lets one recording find out whether the halt can be lifted."""
    with resources.ledger.write() as tx:
        probe = bounds.oldest_unsubmitted(tx)
        if probe is not None and standing.call_class == CallClass.MEDIA:
            probe = _to_be_looked_up(tx, probe, by=by)
        if probe is not None and probe.state == State.PENDING:
            probe = handout.hand_out_one(tx, probe, by=by, due_at=after(OUT_SECONDS))
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
