"""What Prometheus is told of a receiver: every metric's name and meaning, and the port where metrics are read."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

#: Not the library's own, which Flower fills in its process and anything imported may fill in ours.
REGISTRY: Final = CollectorRegistry()
# When each counter began would be as many lines again, and process_start_time_seconds says it.
disable_created_metrics()  # type: ignore[no-untyped-call]
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

#: What a delivery came to, in the order of docs/receiver.md.
VERDICTS: Final = (
    "accepted",
    "duplicate",
    "ignored",
    "unknown",
    "unmatched",
    "refused",
    "forged",
    "mismatched",
    "malformed",
    "too_large",
    "unsupported",
    "broken_off",
    "unavailable",
    "error",
)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

EVENTS: Final = Counter(
    "retroscribe_receiver_events", "Deliveries, by what they came to.", ["verdict"], registry=REGISTRY
)
EARLY: Final = Counter(
    "retroscribe_receiver_early_events",
    "Accepted events that came before the answer to their submission was recorded.",
    registry=REGISTRY,
)
TOKENS: Final = Counter(
    "retroscribe_receiver_tokens",
    "Valid callback tokens, by which of RETROSCRIBE_WEBHOOK_SECRETS signed them, the first is 1.",
    ["secret"],
    registry=REGISTRY,
)
SIGNATURES: Final = Counter(
    "retroscribe_receiver_signatures",
    "Checked signatures of bodies, where they are asked for: valid or invalid.",
    ["result"],
    registry=REGISTRY,
)
CONNECTIONS: Final = Counter(
    "retroscribe_receiver_connections_cut",
    "Connections that were ended before they made a request: bad_request, slow, or crowded out.",
    ["reason"],
    registry=REGISTRY,
)
REQUEST_SECONDS: Final = Histogram(
    "retroscribe_receiver_request_seconds",
    "From a delivery's head to its answer, in seconds.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
STORE_SECONDS: Final = Histogram(
    "retroscribe_receiver_store_seconds",
    "A transaction that keeps events, in seconds, the waiting for the ledger included.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
STORED_TOGETHER: Final = Histogram(
    "retroscribe_receiver_stored_together",
    "Events in one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64),
    registry=REGISTRY,
)

for _verdict in VERDICTS:  # a series that begins with its first event has no rate then
    EVENTS.labels(_verdict)


def serve_metrics(host: str, port: int, registry: CollectorRegistry = REGISTRY) -> None:
    """Serves metrics from threads of its own; raises OSError when it can't listen there."""
    start_http_server(port, addr=host, registry=registry)
