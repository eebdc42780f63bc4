"""Bounds among real workers: what the API accepts never passes a cap, and only what a canary leaves good goes on."""

import pytest

from tests.support.eventually import eventually
from tests.support.fleet import CATALOGUE, Fleet, assert_nothing_lost_nothing_twice
from workers.ledger import backfills
from workers.ledger.backfills import Backfill
from workers.ledger.canaries import CANARY, FAILED, PASSED
from workers.ledger.spending import MAX_RECORDINGS
from workers.ledger.tables import PAUSED
from workers.model import Bounds, State
from workers.pipeline import steering
from workers.sandbox.catalogue import Catalogue

NUMBER, CAP, SIZE = 60, 20, 5
_ALL = Catalogue(1, CATALOGUE)
#: That can be transcribed, and that no other test asks for.
USABLE = [one for one in list(_ALL.media_ids())[-6 * NUMBER :] if (media := _ALL.media(one)) and media.usable]
#: Submitted, and not at its end.
ON_ITS_WAY = (State.SUBMITTING, State.TRANSCRIBING, State.COMPLETED)


def accepted(fleet: Fleet, media_ids: list[str]) -> int:
    """How often the sandbox has accepted one of these."""
    counts = fleet.sandbox.stats()["accepted"]
    return sum(counts.get(one, 0) for one in media_ids)


def backfill(fleet: Fleet, name: str) -> Backfill:
    with fleet.resources.ledger.read() as tx:
        found = backfills.by_name(tx, name)
    assert found is not None
    return found


def is_paused(fleet: Fleet, name: str, why: str) -> bool:
    """Whether it has come to rest: what was refused at first may give room for another."""
    now = backfill(fleet, name)
    rests = not any(fleet.states(name)[state] for state in (*ON_ITS_WAY, State.UNKNOWN))
    return (now.state, now.paused_for) == (PAUSED, why) and rests


def test_workers_that_race_for_a_small_cap_use_it_up_and_do_not_pass_it(fleet: Fleet) -> None:
    race_for_a_cap(fleet)


@pytest.mark.slow
def test_over_postgresql_they_do_not_pass_it_either(fleet_on_postgres: Fleet) -> None:
    race_for_a_cap(fleet_on_postgres)


def race_for_a_cap(fleet: Fleet) -> None:
    fleet.start("pipeline.2")
    fleet.sandbox.faults(submit_status={"429": 0.2, "401": 0.1}, retry_after=1)

    media_ids = fleet.ask("capped", NUMBER, bounds=Bounds(max_recordings=CAP))

    def comes_to_rest() -> bool:
        assert accepted(fleet, media_ids) <= CAP
        return is_paused(fleet, "capped", MAX_RECORDINGS) and accepted(fleet, media_ids) == CAP

    eventually(comes_to_rest, timeout=60, what="the cap")
    fleet.sandbox.faults()
    fleet.kill("pipeline.2")
    steering.resume(fleet.resources, "capped", max_recordings=None)
    ends = fleet.finish("capped")
    assert ends.keys() <= {State.INDEXED, State.REJECTED}
    assert accepted(fleet, media_ids) == ends[State.INDEXED] > CAP
    assert_nothing_lost_nothing_twice(fleet, "capped")


@pytest.mark.slow
def test_a_canary_that_the_api_refuses_stops_the_rest_until_a_person_resumes_it(fleet: Fleet) -> None:
    fleet.sandbox.faults(submit_status=400)
    media_ids = fleet.ask("bad", NUMBER, bounds=Bounds(canary=SIZE))
    eventually(lambda: is_paused(fleet, "bad", CANARY), what="the canary's end")

    assert fleet.states("bad")[State.PENDING] == NUMBER - SIZE
    assert (accepted(fleet, media_ids), backfill(fleet, "bad").canary_state) == (0, FAILED)
    fleet.sandbox.faults()
    steering.resume(fleet.resources, "bad")

    ends = fleet.finish("bad")
    assert ends[State.INDEXED] > SIZE
    assert ends[State.INDEXED] + ends[State.FAILED] + ends[State.REJECTED] == NUMBER


@pytest.mark.slow
def test_a_canary_that_goes_well_has_the_rest_follow_by_itself(fleet: Fleet) -> None:
    fleet.ask("good", 0, extra=USABLE[:NUMBER], bounds=Bounds(canary=SIZE))

    assert fleet.finish("good") == {State.INDEXED: NUMBER}

    assert backfill(fleet, "good").canary_state == PASSED
    assert_nothing_lost_nothing_twice(fleet, "good")
