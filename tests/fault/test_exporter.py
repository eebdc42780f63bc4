"""The exporter's process beside a fleet of real workers, when parts of it die and come back."""

import json
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from config import queues
from tests.conftest import free_port
from tests.support.eventually import eventually
from tests.support.fleet import Fleet
from tests.support.prometheus import samples
from tests.support.sandbox import NO_TLS

QUICK = {"workers.exporter.source:KEPT_SECONDS": 0.2, "workers.exporter.source:ONE_IN": 1}


class Exporter:
    """An exporter of a fleet, in a process of its own."""

    def __init__(self, fleet: Fleet) -> None:
        port = free_port()
        environment = {"RETROSCRIBE_METRICS_PORT": str(port), "PART_CONSTANTS": json.dumps(QUICK)}
        self._address = f"http://127.0.0.1:{port}/metrics"
        with (fleet.folder / "exporter.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.part", "exporter"],
                cwd=fleet.folder,
                env=fleet._environment | environment,
                stdout=output,
                stderr=output,
            )

    def scrape(self) -> dict[str, float]:
        try:
            return samples(httpx.get(self._address, timeout=20, trust_env=False, verify=NO_TLS).text)
        except httpx.HTTPError:
            return {}

    def up(self) -> dict[str, float]:
        found = self.scrape()
        names = ("ledger", "redis", "broker")
        return {name: found.get(f'retroscribe_source_up{{source="{name}"}}', -1) for name in names}

    def workers(self) -> dict[str, float]:
        found = self.scrape()
        return {queue: found.get(f'retroscribe_queue_workers{{queue="{queue}"}}', -1) for queue in queues.ALL}


@pytest.fixture
def exporter(fleet: Fleet) -> Iterator[Exporter]:
    exporter = Exporter(fleet)
    yield exporter
    exporter.process.terminate()
    assert exporter.process.wait(10) == 0


@pytest.mark.slow
def test_a_run_is_counted_and_parts_that_die_are_told_while_the_rest_is_shown(fleet: Fleet, exporter: Exporter) -> None:
    eventually(lambda: set(exporter.up().values()) == {1}, 30, "the exporter")
    eventually(lambda: set(exporter.workers().values()) == {1}, what="all workers")
    submitted = 'retroscribe_api_calls_total{class="submit",status="202"}'
    before, paid = exporter.scrape()[submitted], fleet.sandbox.totals()["submits"]
    fleet.ask("counted", 20)
    fleet.finish("counted")
    paid = fleet.sandbox.totals()["submits"] - paid
    eventually(lambda: exporter.scrape()[submitted] == before + paid, what="each submission counted")

    fleet.kill("index")
    eventually(lambda: exporter.workers()["retroscribe.index"] == 0, 30, "the loss of the index worker")
    assert exporter.workers()["retroscribe.submit"] == 1

    fleet.ask("waiting", 5)
    fleet.kill("valkey")
    eventually(lambda: exporter.up() == {"ledger": 1, "redis": 0, "broker": 0}, 60, "the loss of Valkey")
    found = exporter.scrape()
    assert found["retroscribe_webhooks_expected"] == 1
    waiting = [value for name, value in found.items() if name.startswith('retroscribe_recordings{backfill="waiting"')]
    assert sum(waiting) == 5
    assert submitted not in found

    fleet.heal()
    eventually(lambda: set(exporter.up().values()) == {1}, 60, "all of it back")
    fleet.finish("waiting")
