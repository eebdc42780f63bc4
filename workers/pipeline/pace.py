"""How long so many more recordings would take: limits as they are now, and what else waits for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from workers.ledger import backfills, controls, funnel
from workers.ledger.backfills import Backfill
from workers.ledger.engine import Ledger
from workers.ledger.states import UNSUBMITTED
from workers.ledger.tables import PAUSED
from workers.limits.limiter import LimiterState
from workers.model import CallClass, Lane
from workers.pipeline.status import in_turns, limits
from workers.pipeline.way_back import NO_WAY, WayBack, way_back
from workers.resources import Resources

#: What the API gives an access token, and how much of it is used (`workers.genesys.tokens`).
TOKEN_SECONDS: Final = 3600.0 - 60.0


@dataclass(frozen=True, slots=True)
class Calls:
    """API calls that recordings need; `status` at least, where results can only be looked up."""

    media: float
    submit: float
    status: float
    token: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast recordings of one lane go to the API.

    `rates` are calls a second that each bucket is good for, `buckets` whose each class draws on, `limit` the limit on
    submissions in force. `measured`: the limiter was asked; else these are the limits as configured. No call can be
    made for `gate_seconds`. `looked_up`: results come by status look-ups only. `own` recordings of the same backfill
    wait already and go first; `others`, by backfill, take turns with it, unless it is of lane live. `obstacles` are
    sentences about what holds everything, nobody knows for how long.
    """

    rates: Mapping[CallClass, float]
    buckets: Mapping[CallClass, CallClass]
    limit: float
    measured: bool
    gate_seconds: float
    looked_up: bool
    own: int
    others: Mapping[str, int]
    lane: Lane
    obstacles: Sequence[str]

    @property
    def submit_rate(self) -> float:
        return self.rates[self.buckets[CallClass.SUBMIT]]

    def calls(self, recordings: int, usable: float) -> Calls:
        """What so many recordings need, when that share of them passes validation; one access token an hour."""
        submit = recordings * usable
        token = 1 + self.seconds(recordings, usable) // TOKEN_SECONDS if recordings else 0
        return Calls(recordings, submit, submit if self.looked_up else 0, token)

    def ahead(self, recordings: int) -> int:
        """How many recordings are submitted until the last of these is."""
        mine = recordings + self.own
        return mine if self.lane == Lane.LIVE else in_turns(mine, self.others.values())

    def seconds(self, recordings: int, usable: float) -> float:
        """Until the last of so many new recordings is submitted, from now."""
        return self.gate_seconds + self._each(usable) * self.ahead(recordings) if recordings else 0.0

    def _each(self, usable: float) -> float:
        """Seconds a recording: of the bucket that is busiest with it."""
        # Look-ups of results come after the submissions, but on a shared bucket they take from it.
        calls = {CallClass.MEDIA: 1.0, CallClass.SUBMIT: usable}
        if self.looked_up and self.buckets[CallClass.STATUS] == self.buckets[CallClass.SUBMIT]:
            calls[CallClass.STATUS] = usable
        busy = dict.fromkeys(self.rates, 0.0)
        for call_class, number in calls.items():
            busy[self.buckets[call_class]] += number
        return max(number / self.rates[bucket] for bucket, number in busy.items())


def pace(resources: Resources, ledger: Ledger | None, backfill: Backfill | None, lane: Lane) -> Pace:
    """The pace of recordings of that lane in the backfill, None for one that is still to be made."""
    found = limits(resources)
    buckets = {one: resources.limiter.bucket(one) for one in CallClass}
    around = _Around({}, [], 0, {}) if ledger is None else _around(resources, ledger, backfill)
    configured = {one: around.limits.get(one) or resources.settings.limit(one) for one in set(buckets.values())}
    ceiling = resources.settings.limit_ceiling
    gates = (found[one].gate_seconds for one in (CallClass.MEDIA, CallClass.SUBMIT, CallClass.TOKEN) if one in found)
    return Pace(
        rates={one: sustained(found[one]) if found else limit * ceiling for one, limit in configured.items()},
        buckets=buckets,
        limit=found[CallClass.SUBMIT].configured if found else configured[CallClass.SUBMIT],
        measured=bool(found),
        gate_seconds=max(gates, default=0.0),
        looked_up=resources.settings.callback_base_url is None,
        own=around.own,
        others=around.others,
        lane=lane,
        obstacles=around.obstacles,
    )


def sustained(state: LimiterState) -> float:
    """Calls a second that the limit is good for over hours, by what is known of it now.

    That is the ceiling, or what the API was found to let through, even while the rate is lower after a 429 or a
    restart; and what others leave of it, where the API tells of them.
    """
    learned = state.ceiling_rate if state.learned is None else min(state.ceiling_rate, state.learned)
    rate = max(state.rate, learned)
    return rate if state.others is None else min(rate, max(state.rate, state.ceiling_rate - state.others))


class _Around(NamedTuple):
    """What the ledger knows of it: limits set at run time, obstacles, and what waits, its own and others'."""

    limits: Mapping[str, float]
    obstacles: list[str]
    own: int
    others: dict[str, int]


def _around(resources: Resources, ledger: Ledger, backfill: Backfill | None) -> _Around:
    with ledger.read() as tx:
        halt = controls.halt(tx, resources.client_key)
        obstacles = [] if halt is None else [f"HALTED, and nothing is submitted before that is mended: {halt.detail}"]
        if way_back(tx, resources) == WayBack.NONE:
            obstacles.append(NO_WAY)
        if backfill is not None and backfill.state == PAUSED:
            name = backfill.name
            obstacles.append(f"{name} is paused: nothing of it is submitted until `retroscribe resume {name}`.")
        waiting = funnel.running_with(tx, UNSUBMITTED)
        own = waiting.pop(backfill.id, 0) if backfill else 0
        others = {one.name: waiting[one.id] for one in backfills.every(tx) if one.id in waiting}
        return _Around(controls.limits(tx, resources.client_key), obstacles, own, others)
