"""A search engine that goes away in the middle of a run, writers that die, an index that is rebuilt under them."""

import random
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.fault.conftest import running_fleet
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, assert_nothing_lost_nothing_twice
from tests.support.opensearch import stand_in
from tests.support.wire import Cut, Wire
from workers.model import State
from workers.pipeline.reindex import reindex

NUMBER = 60
EXPECTED = {State.INDEXED, State.REJECTED}
#: Production waits half a minute for an answer.
IMPATIENT = {"workers.search.opensearch_cluster:_TIMEOUT": [2.0, 2.0, 2.0, 2.0]}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Between the fleet and its search engine."""
    with stand_in() as access:
        port = urlsplit(access.url).port
        assert port is not None
        made = Wire(port)
        yield made
        made.close()


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory, wire: Wire) -> Iterator[Fleet]:
    """A fleet whose index is in a cluster."""
    folder = tmp_path_factory.mktemp("clustered")
    with running_fleet(
        folder, parts=("pipeline", "control", "beat", "receiver"), search_url=f"http://127.0.0.1:{wire.port}"
    ) as fleet:
        fleet.start("index", constants=IMPATIENT)
        yield fleet


def waits(fleet: Fleet, backfill: str) -> int:
    """How many are transcribed and can't be made searchable now."""
    return fleet.states(backfill)[State.COMPLETED]


def only_waits(fleet: Fleet, backfill: str) -> bool:
    return fleet.states(backfill).keys() <= {State.COMPLETED, *EXPECTED}


@pytest.mark.parametrize("how", Cut)
def test_while_the_search_engine_is_away_transcripts_wait_and_then_all_are_indexed(
    clustered: Fleet, wire: Wire, how: Cut
) -> None:
    backfill = f"away-{how}"
    clustered.ask(backfill, NUMBER)
    eventually(lambda: clustered.ended(backfill) > NUMBER // 4, 60, "the first quarter")

    wire.cut(how)
    eventually(lambda: only_waits(clustered, backfill), 120, "that all others wait for the search engine")
    assert waits(clustered, backfill) > 0
    tried = clustered.said("index").count("document_not_written")
    eventually(
        lambda: clustered.said("index").count("document_not_written") > tried + waits(clustered, backfill),
        120,
        "that the sweep has had each tried again",
    )
    wire.mend()

    assert clustered.finish(backfill, timeout=120).keys() <= EXPECTED
    assert_nothing_lost_nothing_twice(clustered, backfill)


@pytest.mark.parametrize("seed", range(3))
def test_the_index_worker_killed_at_any_moment_of_a_run(clustered: Fleet, seed: int) -> None:
    backfill = f"killed-{seed}"
    clustered.ask(backfill, NUMBER)
    enough = random.Random(seed).randrange(NUMBER * 2 // 3)
    eventually(lambda: clustered.ended(backfill) >= enough, 60, "the end of some")

    clustered.kill("index")
    clustered.start("index", constants=IMPATIENT)

    assert clustered.finish(backfill).keys() <= EXPECTED
    assert_nothing_lost_nothing_twice(clustered, backfill)


def test_an_index_in_a_cluster_that_is_rebuilt_again_and_again_during_a_run_loses_nothing(clustered: Fleet) -> None:
    rebuild_during_a_run(clustered)


def test_a_file_that_is_rebuilt_again_and_again_during_a_run_loses_nothing(fleet: Fleet) -> None:
    rebuild_during_a_run(fleet)


def rebuild_during_a_run(fleet: Fleet) -> None:
    fleet.start("index.2")
    before = fleet.resources.index.count()
    fleet.ask("rebuilt", NUMBER)
    fleet.finish("rebuilt")

    for _ in range(3):
        ended = fleet.ended("rebuilt")
        fleet.ask("rebuilt", NUMBER)
        eventually(lambda ended=ended: fleet.ended("rebuilt") > ended, what="the first ones")
        for _ in reindex(fleet.resources):
            pass

    states = fleet.finish("rebuilt")
    fleet.kill("index.2")
    assert fleet.resources.index.count() == before + states[State.INDEXED]
    assert_nothing_lost_nothing_twice(fleet, "rebuilt")
