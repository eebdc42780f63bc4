"""Serves the fleet's metrics, from a process of their own or beside a receiver's."""

import signal
import threading
import time
from collections.abc import Iterator
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, GCCollector, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from workers.errors import InputError
from workers.exporter import families
from workers.exporter.source import Source
from workers.metrics import serve_metrics
from workers.pipeline import fleet
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: A scrape waits so long for what is asked because of it; Prometheus gives up after 10 s.
PATIENCE_SECONDS: Final = 2.0


class FleetMetrics(Collector):
    """The metrics of all parts together; what is away is left out, and `retroscribe_source_up` says so."""

    def __init__(self, resources: Resources) -> None:
        self._sources = (
            Source("ledger", lambda: families.of_ledger(fleet.ledger_figures(resources))),
            Source("redis", lambda: families.of_api(fleet.api_figures(resources))),
            Source("broker", lambda: families.of_broker(fleet.broker_figures())),
        )

    def describe(self) -> Iterator[Metric]:
        """Nothing: without it, registering would already ask."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """What each source told last, at most some seconds ago."""
        for source in self._sources:
            source.begin()
        deadline = time.monotonic() + PATIENCE_SECONDS
        about = "Whether the ledger, Redis and the broker with its workers told their figures; those of 0 are left out."
        up = GaugeMetricFamily("retroscribe_source_up", about, labels=["source"])
        about = "How long each took to tell; it is asked a twentieth of the time at most."
        took = GaugeMetricFamily("retroscribe_source_seconds", about, labels=["source"])
        for source in self._sources:
            found = source.latest(deadline - time.monotonic())
            up.add_metric([source.name], float(found is not None))
            if found is not None:
                took.add_metric([source.name], found.took_seconds)
                yield from found.metrics
        yield up
        yield took


def serve(resources: Resources) -> None:
    """Serves them until SIGTERM or SIGINT; raises InputError when settings are missing, or it can't listen there."""
    fleet.check_client(resources)
    host, port = resources.settings.metrics_host, resources.settings.metrics_port
    if not port:
        raise InputError("RETROSCRIBE_METRICS_PORT is 0, which means no metrics: set the port that is to be scraped.")
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(FleetMetrics(resources))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve_metrics(host, port, registry)
    except OSError as error:
        raise InputError(
            f"The exporter can't listen on {host}:{port} ({error.strerror}): free the port, or set "
            "RETROSCRIBE_METRICS_HOST and RETROSCRIBE_METRICS_PORT to others."
        ) from None
    log.info("exporter_starts", host=host, port=port)
    stop.wait()
