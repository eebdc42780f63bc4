"""Several machines with homes of their own at one ledger and one broker: nothing is handed out or sent twice."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from config import queues
from tests.conftest import MakeResources
from tests.support.desk import BY, Desk
from workers.ledger.tables import recordings as table
from workers.pipeline.pump import pump
from workers.pipeline.sweep import sweep
from workers.resources import Resources

pytestmark = pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)

T = TypeVar("T")


@pytest.fixture
def other(desk: Desk, make_resources: MakeResources, ledger_url: str, tmp_path: Path) -> Resources:
    """A second machine: it shares settings and servers with the first, and nothing else."""
    return make_resources(RETROSCRIBE_HOME=str(tmp_path / "other"), RETROSCRIBE_DATABASE_URL=ledger_url)


def at_once(work: Callable[[Resources], T], *machines: Resources) -> list[T]:
    """What the machines give that do the same at the same moment, as when a lease was overtaken."""
    together = threading.Barrier(len(machines))

    def one(machine: Resources) -> T:
        with machine.ledger.read():  # connected before it counts
            together.wait(30)
        return work(machine)

    with ThreadPoolExecutor(len(machines)) as pool:
        return list(pool.map(one, machines))


def test_two_pumps_at_once_hand_each_recording_out_once(desk: Desk, other: Resources) -> None:
    asked = desk.ask(f"m-{number}" for number in range(300))

    sent = at_once(lambda machine: pump(machine, by=BY), desk.resources, other)

    messages = [message["recording_id"] for message in desk.messages(queues.VALIDATE)]
    assert sorted(messages) == sorted(one.id for one in asked)
    assert sum(sent) == 300
    assert {desk.now(one).epoch for one in asked} == {1}


def test_two_sweeps_at_once_send_each_lost_message_once(desk: Desk, other: Resources) -> None:
    asked = desk.ask(f"m-{number}" for number in range(60))
    pump(desk.resources, by=BY)
    desk.lose_messages()
    with desk.resources.ledger.write() as tx:
        tx.execute(table.update().values(due_at=time.time() - 1))

    at_once(lambda machine: sweep(machine, by=BY), desk.resources, other)

    messages = [(message["recording_id"], message["epoch"]) for message in desk.messages(queues.VALIDATE)]
    assert sorted(messages) == sorted((one.id, 2) for one in asked)
