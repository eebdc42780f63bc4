"""SIGTERM in the middle of a run: calls under way are finished and recorded, everything else is given back."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import free_port
from tests.support.eventually import eventually
from tests.support.fleet import CATALOGUE, PARTS, RATE, Broker, Fleet, assert_nothing_lost_nothing_twice
from tests.support.sandbox import Sandbox
from tests.support.task_events import listening
from workers.model import CallClass, State

WORKERS = ("pipeline", "index", "control")
#: Only at the end.
SELDOM = {"workers.consumer:EVENTS_WAIT_SECONDS": 3600}
#: The worker would otherwise be waited for 28 s.
CUT_SHORT = {"workers.app:STOP_SECONDS": 4}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Fleet]:
    """`retroscribe up` alone, with a broker of its own."""
    ports = {"flower_port": free_port(), "metrics_port": free_port()}
    with Sandbox(rate=RATE, processing_seconds=0.2, count=CATALOGUE) as sandbox:
        fleet = Fleet(tmp_path, sandbox, Broker(tmp_path), parts=["up"], redis_url=None, **ports)
        yield fleet
        fleet.close()


def calls_are_under_way(fleet: Fleet, backfill: str, *, slow_seconds: float = 2) -> None:
    """Returns when some recordings are done, some submissions wait for a slow API, and others for a thread."""
    fleet.ask(backfill, 16)  # well over 40 tasks, also when some of them are rejected
    fleet.finish(backfill)
    fleet.sandbox.faults(slow_seconds=slow_seconds)
    fleet.ask(backfill, 30)
    eventually(lambda: fleet.states(backfill)[State.SUBMITTING] > 1, what="calls under way")


def was_cut_short(fleet: Fleet, name: str) -> bool:
    return "although its broker does not answer" in fleet.said(name)


def processes_with(setting: str) -> list[int]:
    """The processes that have this in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if setting in process.joinpath("environ").read_text(errors="replace").split("\0"):
                found.append(int(process.name))
    return found


def assert_goes_on_as_if_nothing_had_been(fleet: Fleet, backfill: str) -> None:
    assert fleet.finish(backfill).keys() <= {State.INDEXED, State.REJECTED}
    assert fleet.times_in(State.UNKNOWN, backfill) == 0
    assert_nothing_lost_nothing_twice(fleet, backfill)


def told(bunches: list[list[dict[str, Any]]]) -> tuple[set[str], set[str]]:
    """The tasks that began and those that ended, by what Flower hears."""
    events = [event for bunch in bunches for event in bunch]
    started = {event["uuid"] for event in events if event["type"] == "task-started"}
    ended = {event["uuid"] for event in events if event["type"] in {"task-succeeded", "task-failed", "task-retried"}}
    return started, ended


def uncounted(fleet: Fleet) -> int:
    """How many submissions the API has seen that the metrics have not."""
    by_status = fleet.resources.calls.read()[CallClass.SUBMIT].by_status
    return int(fleet.sandbox.totals()["submits"]) - sum(by_status.values())


def test_a_deploy_in_the_middle_of_a_run_ends_each_part_in_time_with_all_told_and_no_outcome_unknown(
    fleet: Fleet,
) -> None:
    fleet.kill(*WORKERS)  # which forget what they have not told
    fleet.broker.wipe()  # of the messages in the hands of workers that other tests killed
    with listening(fleet.broker) as heard:
        fleet.start(*WORKERS, constants=SELDOM)
        before = uncounted(fleet)
        calls_are_under_way(fleet, "deployed")

        fleet.signal(signal.SIGTERM, *PARTS)
        codes = fleet.ends(*PARTS)

        started, ended = told(heard.bunches())
    assert codes == dict.fromkeys(PARTS, 0)
    assert fleet.states("deployed")[State.SUBMITTING] == 0
    assert not was_cut_short(fleet, "pipeline")
    with fleet.broker.client() as broker:
        assert broker.hlen("unacked") == 0
    assert len(started) > 40
    assert started == ended
    assert uncounted(fleet) == before
    fleet.heal()
    assert_goes_on_as_if_nothing_had_been(fleet, "deployed")


def test_events_of_tasks_go_out_in_bunches_and_the_last_ones_before_a_worker_ends(fleet: Fleet) -> None:
    fleet.kill(*WORKERS)
    with listening(fleet.broker) as heard:
        fleet.start(*WORKERS, constants=SELDOM)
        fleet.ask("idle", 40)
        fleet.finish("idle")

        fleet.signal(signal.SIGTERM, *WORKERS)
        fleet.ends(*WORKERS)

        bunches = heard.bunches()
    started, ended = told(bunches)
    assert len(started) > 40
    assert started == ended
    assert len(bunches) <= len(WORKERS)
    fleet.heal()


def test_a_worker_that_fails_ends_with_an_exit_code_that_says_so(fleet: Fleet) -> None:
    with pytest.raises(AssertionError, match="Unrecoverable error"):
        fleet.start("control.broken", constants={"celery.worker.loops:_timer_entries": None})

    assert fleet.ends("control.broken") == {"control.broken": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "codes"), [(signal.SIGTERM, {0}), (signal.SIGINT, {0, 1})], ids=["SIGTERM", "SIGINT"]
)
def test_a_second_signal_does_not_cut_calls_short(fleet: Fleet, second: signal.Signals, codes: set[int]) -> None:
    """Celery's code for SIGINT is 1, and the later signal's is used until its loop has looked at the first."""
    backfill = f"second-{second.name.lower()}"
    calls_are_under_way(fleet, backfill)

    fleet.signal(signal.SIGTERM, "pipeline")
    eventually(lambda: "Warm shutdown" in fleet.said("pipeline"), what="the beginning of the end")
    fleet.signal(second, "pipeline")

    assert fleet.ends("pipeline")["pipeline"] in codes
    assert fleet.states(backfill)[State.SUBMITTING] == 0
    fleet.heal()
    assert_goes_on_as_if_nothing_had_been(fleet, backfill)


def test_a_worker_whose_threads_wait_for_the_gate_ends_long_before_it_opens(fleet: Fleet) -> None:
    fleet.kill("pipeline")
    fleet.ask("gated", 40)
    eventually(lambda: fleet.states("gated")[State.QUEUED] == 40, what="messages")
    fleet.resources.limiter.close_gate(CallClass.MEDIA, 55, "429")
    fleet.start("pipeline")
    eventually(lambda: fleet.times_in(State.PENDING, "gated"), what="more tasks than may wait for the gate")

    fleet.signal(signal.SIGTERM, "pipeline")

    assert fleet.ends("pipeline") == {"pipeline": 0}
    assert not was_cut_short(fleet, "pipeline")
    fleet.broker.wipe()  # which opens the gate
    fleet.let_it_be_due("gated")
    fleet.heal()
    assert_goes_on_as_if_nothing_had_been(fleet, "gated")


@pytest.mark.slow
def test_a_worker_ends_in_time_while_the_broker_is_away(fleet: Fleet) -> None:
    fleet.kill("pipeline")
    fleet.start("pipeline", constants=CUT_SHORT)
    calls_are_under_way(fleet, "away-stop", slow_seconds=1)

    fleet.broker.kill()
    eventually(lambda: fleet.states("away-stop")[State.SUBMITTING] == 0, what="answers that can't be passed on")
    fleet.signal(signal.SIGTERM, "pipeline")

    assert fleet.ends("pipeline") == {"pipeline": 0}
    fleet.heal()
    assert_goes_on_as_if_nothing_had_been(fleet, "away-stop")


@pytest.mark.slow
def test_each_part_ends_in_time_beside_a_frozen_broker(fleet: Fleet) -> None:
    """Then Celery's main threads hang as well: the workers' in a heartbeat, beat's in sending."""
    fleet.kill(*WORKERS)
    fleet.start(*WORKERS, constants=CUT_SHORT)
    calls_are_under_way(fleet, "frozen-stop", slow_seconds=1)

    fleet.broker.freeze()
    eventually(lambda: fleet.states("frozen-stop")[State.SUBMITTING] == 0, what="answers that can't be passed on")
    fleet.signal(signal.SIGTERM, *PARTS)
    codes = fleet.ends(*PARTS)

    assert codes == dict.fromkeys(PARTS, 0)
    fleet.heal()
    assert_goes_on_as_if_nothing_had_been(fleet, "frozen-stop")


@pytest.mark.slow
def test_up_ends_in_the_middle_of_a_run_leaves_no_process_and_goes_on_when_started_again(stack: Fleet) -> None:
    calls_are_under_way(stack, "up")

    stack.signal(signal.SIGTERM, "up")

    assert stack.ends("up") == {"up": 0}
    assert processes_with(f"RETROSCRIBE_HOME={stack.folder}/home") == []
    assert stack.states("up")[State.SUBMITTING] == 0
    stack.sandbox.faults()
    stack.start("up")
    assert_goes_on_as_if_nothing_had_been(stack, "up")
