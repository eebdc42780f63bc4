"""The names and meanings of the fleet's metrics, and how figures become them."""

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from workers.ledger.gauges import OPEN
from workers.limits.calls import Calls
from workers.limits.limiter import LimiterState
from workers.model import CallClass, State
from workers.pipeline.fleet import ApiFigures, BrokerFigures, LedgerFigures

K = TypeVar("K", bound=str)
# A series that begins with its first call has no rate then.
_EXPECTED: Final = {
    call_class: {"202" if call_class == CallClass.SUBMIT else "200": 0, "429": 0} for call_class in CallClass
}
#: Backfills that are shown by name: the newest ones that are not finished.
SHOWN_BACKFILLS: Final = 50


def of_ledger(figures: LedgerFigures) -> Iterator[Metric]:
    """What the ledger knows."""
    shown = figures.open[-SHOWN_BACKFILLS:]
    by_state = {state: sum(one.counts.get(state, 0) for one in figures.open) for state in sorted(OPEN)}
    about = f"Recordings of each backfill that is not finished, by state; of the newest {SHOWN_BACKFILLS}."
    recordings = GaugeMetricFamily("retroscribe_recordings", about, labels=["backfill", "state"])
    about = f"1 for the state of each backfill that is not finished; of the newest {SHOWN_BACKFILLS}."
    backfills = GaugeMetricFamily("retroscribe_backfill_state", about, labels=["backfill", "state"])
    for one in shown:
        backfills.add_metric([one.name, one.state], 1)
        for state in State:
            recordings.add_metric([one.name, str(state)], one.counts.get(state, 0))
    yield recordings
    yield backfills
    about = "Recordings of all backfills that are not at their end, by state; a person decides about parked ones."
    yield _gauge("retroscribe_open_recordings", about, "state", by_state)
    about = "For how long the oldest recording has been in each of these states, a pending one since it was asked for."
    ages = {state: figures.oldest.get(state, 0.0) for state in sorted(OPEN)}
    yield _gauge("retroscribe_oldest_recording_seconds", about, "state", ages)
    about = "Recordings that nothing but limits holds back: not paused, in their hours, not waiting for a canary."
    yield GaugeMetricFamily("retroscribe_ready_recordings", about, figures.ready)
    about = "Events in the ledger's inbox that wait to be applied (new), or are kept aside (refused, unmatched)."
    yield _gauge("retroscribe_inbox_events", about, "state", figures.inbox)
    about = "How long ago the oldest event came that nobody has applied yet."
    yield GaugeMetricFamily("retroscribe_oldest_event_seconds", about, figures.oldest_event or 0.0)
    about = "Acceptances beside the wanted ones: paid for twice."
    yield GaugeMetricFamily("retroscribe_accepted_twice", about, figures.accepted_twice)
    about = "1 while nothing is submitted because the API refuses the client."
    yield GaugeMetricFamily("retroscribe_halted", about, float(figures.is_halted))
    about = "1 when submissions name an address for webhooks, 0 when completion is polled only."
    yield GaugeMetricFamily("retroscribe_webhooks_expected", about, float(figures.expects_webhooks))


def of_api(figures: ApiFigures) -> Iterator[Metric]:
    """What Redis knows of the API."""
    yield from _limits(figures.limits)
    yield from _calls(figures.calls)
    about = "How long ago the access token that all share was asked for; none is shown while there is none."
    age = GaugeMetricFamily("retroscribe_token_age_seconds", about, labels=[])
    about = "How much longer the access token lives."
    left = GaugeMetricFamily("retroscribe_token_left_seconds", about, labels=[])
    if figures.token is not None:
        left.add_metric([], figures.token.left_seconds)
        if figures.token.age_seconds is not None:
            age.add_metric([], figures.token.age_seconds)
    yield age
    yield left


def of_broker(figures: BrokerFigures) -> Iterator[Metric]:
    """What the broker and the workers told."""
    about = "Messages that wait in each queue; those in a worker's hands do not count."
    yield _gauge("retroscribe_queue_messages", about, "queue", figures.waiting)
    yield _gauge("retroscribe_queue_workers", "Live workers that take from each queue.", "queue", figures.workers)


def _limits(limits: Mapping[CallClass, LimiterState]) -> Iterator[Metric]:
    def each(name: str, about: str, values: Mapping[CallClass, float | None]) -> Metric:
        return _gauge(name, about, "class", {one: number for one, number in values.items() if number is not None})

    states = limits.items()
    about = "The limit in force, calls a second: the setting, or what was set at run time."
    yield each("retroscribe_limit_configured_per_second", about, {one: state.configured for one, state in states})
    about = "What the API was found to let through; none is shown while it has refused nothing."
    yield each("retroscribe_limit_learned_per_second", about, {one: state.learned for one, state in states})
    about = "What is handed out now."
    yield each("retroscribe_limit_allowed_per_second", about, {one: state.rate for one, state in states})
    about = "What was handed out over the last 10 s."
    yield each("retroscribe_limit_used_per_second", about, {one: state.granted_per_second for one, state in states})
    about = "What other apps take of the limit; only where the API tells."
    yield each("retroscribe_limit_others_per_second", about, {one: state.others for one, state in states})
    about = "Until the gate opens, before which no call of the class is made; 0: open."
    yield each("retroscribe_gate_seconds", about, {one: state.gate_seconds for one, state in states})
    about = "429s of the last 60 s."
    yield each("retroscribe_rejected_last_minute", about, {one: state.rejected_last_minute for one, state in states})


def _calls(calls: Mapping[CallClass, Calls]) -> Iterator[Metric]:
    about = "Calls to the API, by HTTP status; no_answer: sent, and none came; not_sent: nothing left."
    made = CounterMetricFamily("retroscribe_api_calls", about, labels=["class", "status"])
    about = "From the first byte of a call to the last of its answer, without waiting for a permit."
    took = HistogramMetricFamily("retroscribe_api_call_seconds", about, labels=["class"])
    for call_class, one in calls.items():
        for status, number in sorted({**_EXPECTED[call_class], **one.by_status}.items()):
            made.add_metric([str(call_class), status], number)
        total, buckets = 0, []
        for bound, number in one.within.items():
            total += number
            buckets.append((bound, total))
        took.add_metric([str(call_class)], buckets, one.seconds)
    yield made
    yield took


def _gauge(name: str, about: str, label: str, values: Mapping[K, float]) -> Metric:
    gauge = GaugeMetricFamily(name, about, labels=[label])
    for value, number in values.items():
        gauge.add_metric([str(value)], number)
    return gauge
