"""How a backfill stands: its funnel, its rate and when it will be done, from the ledger and the limiter."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from workers.errors import InputError, LimiterUnavailable
from workers.ledger import backfills, controls, events, funnel
from workers.ledger.states import ACTIVE, UNSUBMITTED
from workers.ledger.tables import PAUSED, RUNNING
from workers.limits.limiter import LimiterState
from workers.model import CallClass, State
from workers.pipeline.failures import Failure, failures
from workers.pipeline.limit import limit_json
from workers.pipeline.way_back import WayBack, way_back
from workers.resources import Resources


@dataclass(frozen=True, slots=True)
class Status:
    """A backfill at one moment; `limits` is empty when Redis can't be asked, `halt` None when the client may call.

    `failures` has an entry for each state and reason that somebody should know of. `ahead` is how many recordings are
    submitted until the last of its own is: its own, and those of other running backfills that take turns with them.
    `aside` counts the events of the whole inbox that were kept as refused or unmatched.
    """

    backfill: backfills.Backfill
    counts: funnel.Funnel
    speed: funnel.Speed
    failures: Sequence[Failure]
    ahead: int
    limits: Mapping[CallClass, LimiterState]
    halt: controls.Halt | None
    way_back: WayBack
    aside: Mapping[str, int]

    @property
    def submit(self) -> LimiterState | None:
        return self.limits.get(CallClass.SUBMIT)

    @property
    def gates(self) -> list[LimiterState]:
        """The call classes that may not call now, the farthest gate first."""
        closed = [state for state in self.limits.values() if state.gate_seconds]
        return sorted(closed, key=lambda state: -state.gate_seconds)

    @property
    def outages(self) -> int:
        """How many calls in a row failed because the API did not answer, while a gate is closed for it."""
        return max((state.failures for state in self.gates if state.gate_reason != "429"), default=0)

    @property
    def active(self) -> int:
        """How many recordings are not at their end, those that another backfill has and this one waits for included."""
        own = sum(count for state, count in self.counts.states.items() if state in ACTIVE)
        shared = sum(count for state, count in self.counts.shared_by_state.items() if state in ACTIVE)
        return own + shared

    @property
    def unsubmitted(self) -> int:
        return _unsubmitted(self.counts)

    @property
    def is_held(self) -> bool:
        """Whether nothing of it is submitted before something happens that nobody knows the time of."""
        stopped = self.backfill.state != RUNNING or self.halt is not None or self.way_back == WayBack.NONE
        return stopped or self.outages > 0

    @property
    def waits_for_resume(self) -> bool:
        """Whether nothing goes on before a paused backfill is resumed: this one, or those that have its duplicates."""
        if self.backfill.state == PAUSED and self.unsubmitted:
            return True
        return 0 < self.active == self.counts.shared_paused

    @property
    def unknown_decided_at(self) -> str | None:
        """When the policy decides about the first unknown outcome, at the earliest now; ISO 8601, UTC."""
        first = self.counts.unknown_decided_at
        return None if first is None else datetime.fromtimestamp(max(first, time.time()), UTC).isoformat()

    @property
    def eta_seconds(self) -> float | None:
        """Until the last one is submitted at the present rate, None when nothing waits or nobody can know.

        While a gate is closed nothing is used of the limit, so that then the rate is what it will allow.
        """
        if self.submit is None or not self.unsubmitted or self.is_held:
            return None
        closed = max((gate.gate_seconds for gate in self.gates if gate.call_class != CallClass.STATUS), default=0.0)
        rate = self.submit.rate if closed else self.submit.granted_per_second or self.submit.rate
        return closed + self.ahead / rate if rate else None

    def as_json(self) -> dict[str, Any]:
        """The stable form of `retroscribe status --json`."""
        counts, speed = self.counts, self.speed
        return {
            "backfill": self.backfill.name,
            "state": self.backfill.state,
            "requested": counts.requested,
            "total": counts.total,
            "states": {str(state): counts.states.get(state, 0) for state in State},
            "duplicates": counts.duplicates,
            "duplicates_by_state": dict(counts.duplicates_by_state),
            "intake_rejects": counts.intake_rejects,
            "empty": counts.empty,
            "rejected_reasons": _by_code(counts, State.REJECTED),
            "failed_reasons": _by_code(counts, State.FAILED),
            "parked_reasons": _by_code(counts, State.PARKED),
            "examples": [one.as_json() for one in self.failures],
            "active": self.active,
            "accepted": speed.accepted,
            "submitted_per_second": speed.per_second,
            "eta_seconds": self.eta_seconds,
            "limit": None if self.submit is None else limit_json(self.submit),
            "gates": [
                {"class": str(gate.call_class), "seconds": gate.gate_seconds, "reason": gate.gate_reason}
                for gate in self.gates
            ],
            "halt": None if self.halt is None else {"reason": self.halt.reason, "detail": self.halt.detail},
            "accepted_twice": counts.accepted_twice,
            "unknown_decided_at": self.unknown_decided_at,
            "way_back": str(self.way_back),
            "events_aside": {state: self.aside.get(state, 0) for state in (events.REFUSED, events.UNMATCHED)},
        }


def status(resources: Resources, name: str) -> Status:
    """The backfill's status now; raises InputError when there is none of that name."""
    calls = limits(resources)
    with resources.ledger.read() as tx:
        backfill = named(tx, name)
        counts = funnel.funnel(tx, backfill.id)
        waiting = funnel.running_with(tx, UNSUBMITTED) if _unsubmitted(counts) else {}
        return _status(tx, backfill, counts, waiting, _surroundings(tx, resources, calls))


def statuses(resources: Resources) -> list[Status]:
    """The status of every backfill at one moment, oldest first."""
    calls = limits(resources)
    with resources.ledger.read() as tx:
        around = _surroundings(tx, resources, calls)
        counted = [(backfill, funnel.funnel(tx, backfill.id)) for backfill in backfills.every(tx)]
        waiting = {one.id: _unsubmitted(counts) for one, counts in counted if one.state == RUNNING}
        return [_status(tx, backfill, counts, waiting, around) for backfill, counts in counted]


def named(tx: Connection, name: str) -> backfills.Backfill:
    """The backfill of that name; raises InputError, naming those there are, without one."""
    backfill = backfills.by_name(tx, name)
    if backfill is None:
        known = ", ".join(one.name for one in backfills.every(tx)[-5:]) or "none yet"
        raise InputError(f"There is no backfill '{name}'; there are: {known}.")
    return backfill


def limits(resources: Resources) -> dict[CallClass, LimiterState]:
    """How each call class stands, empty when Redis can't be asked."""
    try:
        return {call_class: resources.limiter.snapshot(call_class) for call_class in CallClass}
    except LimiterUnavailable:
        return {}


def _status(
    tx: Connection,
    backfill: backfills.Backfill,
    counts: funnel.Funnel,
    waiting: Mapping[int, int],
    around: Mapping[str, Any],
) -> Status:
    mine = _unsubmitted(counts)
    # The pump hands out in turns, so of another backfill at most as many go before the last of this one.
    others = sum(min(number, mine) for other, number in waiting.items() if other != backfill.id)
    found = failures(tx, backfill, counts)
    return Status(backfill, counts, funnel.speed(tx, backfill.id), found, mine + others, **around)


def _surroundings(tx: Connection, resources: Resources, calls: Mapping[CallClass, LimiterState]) -> dict[str, Any]:
    """The fields of a status that are the same for each backfill."""
    return {
        "limits": calls,
        "halt": controls.halt(tx, resources.client_key),
        "way_back": way_back(tx, resources),
        "aside": events.aside(tx),
    }


def _unsubmitted(counts: funnel.Funnel) -> int:
    return sum(counts.states.get(state, 0) for state in UNSUBMITTED)


def _by_code(counts: funnel.Funnel, state: State) -> dict[str, int]:
    """How many recordings are in that state for each reason code."""
    return {reason: number for reason, number in counts.reasons.get(state, {}).items() if reason}
