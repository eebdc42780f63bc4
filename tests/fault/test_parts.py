"""Processes killed at any moment of a run and started again, as a supervisor does it: nothing lost, nothing twice."""

import random

import pytest

from tests.support.eventually import eventually
from tests.support.fleet import PARTS, Fleet, assert_nothing_lost_nothing_twice
from workers.model import Lane, State

NUMBER = 60
#: What may become of them: a POST that was cut off in the middle, and that no webhook proved, is for a person to judge.
EXPECTED = {State.INDEXED, State.REJECTED, State.PARKED}


def at_any_moment(fleet: Fleet, backfill: str, number: int, chance: random.Random) -> None:
    """Returns when some of so many new recordings, by chance none, have come to their end."""
    enough = fleet.ended(backfill) + chance.randrange(number * 2 // 3)
    eventually(lambda: fleet.ended(backfill) >= enough, 60, "the end of some")


@pytest.mark.slow
def test_each_part_killed_in_turn_during_one_run(fleet: Fleet) -> None:
    chance = random.Random(1)
    fleet.sandbox.faults(slow_seconds=0.1)
    kinds = [*PARTS, *fleet.servers]
    for kind in chance.sample(kinds, len(kinds)):
        fleet.ask("in-turn", 12)
        at_any_moment(fleet, "in-turn", 12, chance)
        fleet.kill(kind)
        fleet.start(kind)

    assert fleet.finish("in-turn").keys() <= EXPECTED
    assert_nothing_lost_nothing_twice(fleet, "in-turn")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [*PARTS, "valkey"])
def test_a_part_killed_at_any_moment_of_a_run(fleet: Fleet, kind: str, seed: int) -> None:
    kill_at_any_moment_of_a_run(fleet, kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_worker_of_the_live_lane_killed_at_any_moment_of_a_run(fleet: Fleet, seed: int) -> None:
    fleet.start("live")
    kill_at_any_moment_of_a_run(fleet, "live", seed, lane=Lane.LIVE)
    fleet.kill("live")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["postgres", "pipeline", "receiver"])
def test_a_part_killed_at_any_moment_of_a_run_over_postgresql(fleet_on_postgres: Fleet, kind: str, seed: int) -> None:
    kill_at_any_moment_of_a_run(fleet_on_postgres, kind, seed)


def kill_at_any_moment_of_a_run(fleet: Fleet, kind: str, seed: int, lane: Lane = Lane.BACKFILL) -> None:
    backfill = f"{kind}-{seed}"
    fleet.sandbox.faults(slow_seconds=0.1)
    fleet.ask(backfill, NUMBER, lane=lane)
    at_any_moment(fleet, backfill, NUMBER, random.Random(backfill))

    fleet.kill(kind)
    fleet.start(kind)

    assert fleet.finish(backfill).keys() <= EXPECTED
    assert_nothing_lost_nothing_twice(fleet, backfill)
