"""Machines that come and go in the middle of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.support.fleet import CATALOGUE, PARTS, RATE, assert_nothing_lost_nothing_twice
from tests.support.hosts import Hosts, submitted_by
from tests.support.postgres import Postgres
from tests.support.sandbox import Sandbox
from workers.model import State

pytestmark = pytest.mark.slow

NUMBER = 600


@pytest.fixture
def hosts(tmp_path: Path, postgres: Postgres) -> Iterator[Hosts]:
    broker = Broker(tmp_path).start()
    with Sandbox(rate=RATE, processing_seconds=0.2, count=CATALOGUE) as sandbox:
        started = Hosts(tmp_path, broker, sandbox, postgres.empty_ledger())
        yield started
        started.close()
    broker.close()


def test_machines_come_and_go_in_the_middle_of_a_run_and_each_takes_its_part(hosts: Hosts) -> None:
    first = hosts.add("first", PARTS)  # every part, for the search index is a file of its own
    first.ask("shared", NUMBER)
    eventually(lambda: first.ended("shared") > 20, what="the first ones")

    second = hosts.add("second", ("pipeline",))
    eventually(lambda: submitted_by(second) > 20, what="submissions of the second machine")
    third = hosts.add("third", ("pipeline",))
    eventually(lambda: submitted_by(third) > 20, what="submissions of the third machine")
    second.signal(15, "pipeline")
    assert second.ends("pipeline") == {"pipeline": 0}
    third.kill("pipeline")
    states = first.finish("shared", timeout=120)

    assert states.keys() <= {State.INDEXED, State.REJECTED, State.PARKED}
    assert submitted_by(first) > 20
    assert_nothing_lost_nothing_twice(first, "shared")
