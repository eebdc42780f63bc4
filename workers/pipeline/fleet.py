"""How the whole fleet stands, as Prometheus is told: one function for each place that has to be asked."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from config import queues
from workers import dispatch
from workers.errors import InputError
from workers.genesys.tokens import TokenTimes
from workers.ledger import canaries, controls, events, gauges
from workers.ledger.gauges import OpenBackfill
from workers.ledger.states import UNSUBMITTED
from workers.ledger.tables import RUNNING
from workers.limits.calls import Calls
from workers.limits.limiter import LimiterState
from workers.model import CallClass, State
from workers.pipeline import bounds
from workers.resources import Resources


@dataclass(frozen=True, slots=True)
class LedgerFigures:
    """What the ledger knows of all that is not at its end; `oldest` and `oldest_event` are seconds ago.

    `ready` counts the recordings that nothing but limits holds back from being submitted: their backfill runs, in its
    hours, and they don't wait for its canary.
    """

    open: Sequence[OpenBackfill]
    oldest: Mapping[State, float]
    ready: int
    inbox: Mapping[str, int]
    oldest_event: float | None
    accepted_twice: int
    is_halted: bool
    expects_webhooks: bool


@dataclass(frozen=True, slots=True)
class ApiFigures:
    """What Redis knows of the API: how its limits stand, what became of calls, and the access token, if there is."""

    limits: Mapping[CallClass, LimiterState]
    calls: Mapping[CallClass, Calls]
    token: TokenTimes | None


@dataclass(frozen=True, slots=True)
class BrokerFigures:
    """How many messages wait in each queue, and how many live workers take from it."""

    waiting: Mapping[str, int]
    workers: Mapping[str, int]


def ledger_figures(resources: Resources) -> LedgerFigures:
    """Asks the ledger, reading only; raises LedgerUnavailable."""
    now = time.time()
    with resources.ledger.read() as tx:
        unfinished = gauges.open_backfills(tx)
        since = gauges.oldest(tx, [one.id for one in unfinished])
        event = gauges.oldest_event(tx)
        return LedgerFigures(
            open=unfinished,
            oldest={state: max(0.0, now - moment) for state, moment in since.items()},
            ready=_ready(tx, unfinished),
            inbox=events.pending(tx),
            oldest_event=None if event is None else max(0.0, now - event),
            accepted_twice=gauges.accepted_twice(tx),
            is_halted=controls.halt(tx, resources.client_key) is not None,
            expects_webhooks=resources.settings.callback_base_url is not None,
        )


def check_client(resources: Resources) -> None:
    """Raises InputError when nobody says whose limits and calls are meant."""
    if resources.settings.genesys.client_id is None:
        raise InputError(
            "GENESYS_CLIENT_ID is not set, so nobody knows whose limits to show: give it and GENESYS_BASE_URL the "
            "values that the workers have; the secret is not needed."
        )


def api_figures(resources: Resources) -> ApiFigures:
    """Asks Redis, changing nothing; raises LimiterUnavailable or Retryable when it does not answer."""
    check_client(resources)
    limits = {call_class: resources.limiter.snapshot(call_class) for call_class in CallClass}
    return ApiFigures(limits, resources.calls.read(), resources.tokens.times())


def broker_figures() -> BrokerFigures:
    """Asks the broker, and through it the workers, for a second; raises PartUnreachable."""
    waiting = {queue: dispatch.waiting_messages([queue]) for queue in queues.ALL}
    workers = dispatch.consumers()
    return BrokerFigures(waiting, {queue: workers[queue] for queue in queues.ALL})


def _ready(tx: Connection, unfinished: Sequence[OpenBackfill]) -> int:
    quiet = bounds.closed(tx)
    running = [one for one in unfinished if one.state == RUNNING and one.id not in quiet]
    flying = [one.id for one in running if one.canary_state == canaries.FLYING]
    ahead = gauges.canary_counts(tx, flying)
    counts = [ahead.get(one.id, {}) if one.id in flying else one.counts for one in running]
    return sum(number for each in counts for state, number in each.items() if state in UNSUBMITTED)
