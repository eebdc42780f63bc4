"""Several machines: homes of their own, and nothing in common but the URLs of broker and ledger."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import free_port
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.support.fleet import CATALOGUE, RATE, Fleet, assert_nothing_lost_nothing_twice
from tests.support.postgres import Postgres
from tests.support.sandbox import Sandbox
from workers.model import State

pytestmark = pytest.mark.slow

NUMBER = 600


class Machines:
    """The first has every part, for the search index is a file of its own; each further one submits."""

    def __init__(self, folder: Path, broker: Broker, sandbox: Sandbox, database_url: str) -> None:
        port = free_port()
        self._folder = folder
        self._common: dict[str, Any] = {
            "database_url": database_url,
            "public_url": f"http://127.0.0.1:{port}",
            "unchecked": {"submit_lease_seconds": 10},
        }
        self._broker, self._sandbox = broker, sandbox
        self.first = self._machine("first", receiver_port=port)
        self._closing = ExitStack()
        self._closing.callback(self.first.close)

    def add(self, name: str) -> Fleet:
        """One more machine."""
        added = self._machine(name, parts=("pipeline",))
        self._closing.callback(added.close)
        return added

    def close(self) -> None:
        self._closing.close()

    def _machine(self, name: str, **options: Any) -> Fleet:
        folder = self._folder / name
        folder.mkdir()
        return Fleet(folder, self._sandbox, self._broker, **self._common, **options)


@pytest.fixture
def machines(tmp_path: Path, postgres: Postgres) -> Iterator[Machines]:
    broker = Broker(tmp_path).start()
    with Sandbox(rate=RATE, processing_seconds=0.2, count=CATALOGUE) as sandbox:
        started = Machines(tmp_path, broker, sandbox, postgres.empty_ledger())
        yield started
        started.close()
    broker.close()


def submitted_by(machine: Fleet) -> int:
    """How many recordings this machine's workers say they submitted."""
    return machine.said("pipeline").count("recording_submitted")


def test_machines_come_and_go_in_the_middle_of_a_run_and_each_takes_its_part(machines: Machines) -> None:
    first = machines.first
    first.ask("shared", NUMBER)
    eventually(lambda: first.ended("shared") > 20, what="the first ones")

    second = machines.add("second")
    eventually(lambda: submitted_by(second) > 20, what="submissions of the second machine")
    third = machines.add("third")
    eventually(lambda: submitted_by(third) > 20, what="submissions of the third machine")
    second.signal(15, "pipeline")
    assert second.ends("pipeline") == {"pipeline": 0}
    third.kill("pipeline")
    states = first.finish("shared", timeout=120)

    assert states.keys() <= {State.INDEXED, State.REJECTED, State.PARKED}
    assert submitted_by(first) > 20
    assert_nothing_lost_nothing_twice(first, "shared")
