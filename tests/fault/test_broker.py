"""The broker is disposable: whatever becomes of it in the middle of a run, nothing is lost and nothing paid twice."""

import time

import pytest

from tests.support.eventually import eventually
from tests.support.fleet import Fleet, assert_nothing_lost_nothing_twice
from workers.model import State

#: A call takes this long, so that at any moment of a run some are on their way.
SLOW_SECONDS = 0.2


@pytest.fixture(autouse=True)
def _slow_api(fleet: Fleet) -> None:
    fleet.sandbox.faults(slow_seconds=SLOW_SECONDS)


def in_the_middle_of(backfill: str, fleet: Fleet) -> None:
    """Returns when some recordings are accepted, some are on their way and many still wait in the broker."""
    eventually(lambda: fleet.times_in(State.TRANSCRIBING, backfill) >= 5, 40, "the first ones")


def on_their_way(fleet: Fleet) -> int:
    """How many submissions were accepted whose webhook was not answered with 200 yet."""
    totals = fleet.sandbox.totals()
    return int(totals["accepted_total"] - totals["webhooks_delivered"])


def test_a_wiped_broker_loses_no_recording_and_pays_for_none_twice(fleet: Fleet) -> None:
    pids = fleet.pids()
    fleet.ask("wiped", 60)
    in_the_middle_of("wiped", fleet)

    fleet.broker.wipe()

    assert fleet.finish("wiped").keys() <= {State.INDEXED, State.REJECTED}
    assert_nothing_lost_nothing_twice(fleet, "wiped")
    assert fleet.pids() == pids


def test_eight_restarts_of_an_empty_broker_end_no_process(fleet: Fleet) -> None:
    """Each hits workers with some messages in their hands while they wait for more: without kombu_fix they end."""
    pids = fleet.pids()
    for _ in range(8):
        fleet.ask("restarted", 6)
        eventually(lambda: fleet.states("restarted")[State.SUBMITTING], what="calls under way")
        fleet.broker.kill()
        fleet.broker.start()

    assert fleet.finish("restarted").keys() <= {State.INDEXED, State.REJECTED}
    assert_nothing_lost_nothing_twice(fleet, "restarted")
    assert fleet.pids() == pids


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.slow)])
def test_a_broker_that_is_away_for_a_while_holds_up_the_workers_and_beat_but_not_the_receiver(
    fleet: Fleet, seconds: int
) -> None:
    backfill = f"away-{seconds}"
    pids, before = fleet.pids(), on_their_way(fleet)
    fleet.ask(backfill, 80)
    in_the_middle_of(backfill, fleet)

    eventually(lambda: on_their_way(fleet) > before, what="webhooks on their way")
    fleet.broker.kill()
    eventually(lambda: on_their_way(fleet) <= before, what="webhooks taken without a broker")
    fleet.ask(backfill, 20)  # only beat can have these handed out
    time.sleep(seconds)
    fleet.broker.start()

    assert fleet.finish(backfill, 90).keys() <= {State.INDEXED, State.REJECTED}
    assert_nothing_lost_nothing_twice(fleet, backfill)
    assert fleet.pids() == pids


@pytest.mark.parametrize("seconds", [0, pytest.param(30, marks=pytest.mark.slow)])
def test_a_broker_that_freezes_for_a_while_holds_up_the_workers_and_beat_but_not_the_receiver(
    fleet: Fleet, seconds: int
) -> None:
    """In 30 s all who wait for an answer of it have given up and tried again."""
    backfill = f"frozen-{seconds}"
    pids, before = fleet.pids(), on_their_way(fleet)
    fleet.ask(backfill, 80)
    in_the_middle_of(backfill, fleet)

    eventually(lambda: on_their_way(fleet) > before, what="webhooks on their way")
    fleet.broker.freeze()
    eventually(lambda: on_their_way(fleet) <= before, what="webhooks taken beside a frozen broker")
    fleet.ask(backfill, 20)
    time.sleep(seconds)
    fleet.broker.thaw()

    assert fleet.finish(backfill, 90).keys() <= {State.INDEXED, State.REJECTED}
    assert_nothing_lost_nothing_twice(fleet, backfill)
    assert fleet.pids() == pids
