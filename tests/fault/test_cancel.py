"""Cancelled and paused in the middle of a run, by a person beside the real workers: not one more request leaves."""

import pytest
from sqlalchemy import select

from tests.support.eventually import eventually
from tests.support.fleet import Fleet, assert_nothing_lost_nothing_twice
from workers.ledger import tables
from workers.model import State
from workers.pipeline import steering

NUMBER = 200
#: What was submitted, and is not at its end.
ON_ITS_WAY = (State.SUBMITTING, State.TRANSCRIBING, State.COMPLETED)


def in_the_middle(fleet: Fleet, backfill: str) -> set[str]:
    """Returns when some are done, some POSTs wait for a slow API, and many are still to come; gives the media ids."""
    media_ids = fleet.ask(backfill, NUMBER)
    eventually(lambda: fleet.ended(backfill) > 3, what="the first ones")
    fleet.sandbox.faults(slow_seconds=1)
    eventually(lambda: fleet.states(backfill)[State.SUBMITTING] > 1, what="POSTs on their way")
    return set(media_ids)


def intents(fleet: Fleet, media_ids: set[str]) -> list[str]:
    """The media ids of every POST that may have left, in their order."""
    rows = select(tables.recordings.c.media_id).join_from(tables.submissions, tables.recordings)
    with fleet.resources.ledger.read() as tx:
        return [one for one in tx.execute(rows.order_by(tables.submissions.c.id)).scalars() if one in media_ids]


def accepted(fleet: Fleet, media_ids: set[str]) -> set[str]:
    """Those that the sandbox has accepted."""
    return media_ids & fleet.sandbox.stats()["accepted"].keys()


def test_after_a_cancel_nothing_is_accepted_but_what_was_on_its_way(fleet: Fleet) -> None:
    cancel_in_the_middle(fleet)


@pytest.mark.slow
def test_after_a_cancel_over_postgresql_nothing_is_accepted_but_what_was_on_its_way(fleet_on_postgres: Fleet) -> None:
    cancel_in_the_middle(fleet_on_postgres)


def cancel_in_the_middle(fleet: Fleet) -> None:
    media_ids = in_the_middle(fleet, "cancelled")

    progress = steering.cancel(fleet.resources, "cancelled", by="a test")
    next(progress)  # no more than its state is changed yet
    left = intents(fleet, media_ids)
    assert fleet.states("cancelled")[State.SUBMITTING] > 0
    list(progress)

    fleet.sandbox.faults()
    ends = fleet.finish("cancelled")
    assert intents(fleet, media_ids) == left
    assert accepted(fleet, media_ids) <= set(left)
    assert ends.keys() <= {State.INDEXED, State.REJECTED, State.CANCELLED}
    assert ends[State.INDEXED] == len(accepted(fleet, media_ids)) < NUMBER - ends[State.REJECTED]
    assert_nothing_lost_nothing_twice(fleet, "cancelled")


@pytest.mark.slow
def test_a_pause_holds_the_rest_back_until_it_is_resumed(fleet: Fleet) -> None:
    media_ids = in_the_middle(fleet, "paused")

    steering.pause(fleet.resources, "paused")
    left = intents(fleet, media_ids)
    fleet.sandbox.faults()
    eventually(lambda: not any(fleet.states("paused")[state] for state in ON_ITS_WAY), what="the end of what left")
    eventually(lambda: not fleet.states("paused")[State.QUEUED], what="what is given back")
    assert intents(fleet, media_ids) == left

    steering.resume(fleet.resources, "paused")

    assert fleet.finish("paused").keys() <= {State.INDEXED, State.REJECTED}
    assert len(intents(fleet, media_ids)) > len(left)
    assert_nothing_lost_nothing_twice(fleet, "paused")
