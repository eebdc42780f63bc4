"""kill -9 of the process at every named point on the way of a submission: nothing lost, nothing paid twice."""

from itertools import product

import pytest

from tests.support.death import POINTS
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, assert_nothing_lost_nothing_twice
from workers.model import State


def kill_at(fleet: Fleet, backfill: str, points: dict[str, str], number: int) -> None:
    """Has recordings submitted by workers that die each at its point (name of the worker to point), then by others."""
    fleet.kill("pipeline")
    fleet.start(*points, dies_at=points)
    fleet.ask(backfill, number)
    eventually(lambda: not points.keys() & fleet.pids().keys(), timeout=60, what="the death of all of them")
    fleet.heal()


def assert_held(fleet: Fleet, backfill: str, points: dict[str, str]) -> None:
    states = fleet.finish(backfill, timeout=90)
    assert states.keys() <= {State.INDEXED, State.REJECTED, State.PARKED}
    assert [name for name in points if "PART_DIES_AT: here" not in fleet.said(name)] == []
    assert_nothing_lost_nothing_twice(fleet, backfill)


def test_workers_that_die_at_every_point_of_a_submission_lose_nothing_and_pay_for_nothing_twice(fleet: Fleet) -> None:
    points = {f"pipeline.{point}": f"{point}:3" for point in POINTS}

    kill_at(fleet, "every-point", points, 110)

    assert_held(fleet, "every-point", points)


@pytest.mark.slow
@pytest.mark.parametrize(("point", "time"), list(product(POINTS, (1, 10))))
def test_a_worker_that_dies_at_this_point(fleet: Fleet, point: str, time: int) -> None:
    backfill = f"{point.replace('_', '-')}-{time}"
    points = {f"pipeline.{point}-{time}": f"{point}:{time}"}

    kill_at(fleet, backfill, points, 40)

    assert_held(fleet, backfill, points)
