"""What contract tests share: a broker of a module's own, a search index of each kind, and receivers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
import redis

from tests.support.opensearch import access_from_environment, stand_in
from tests.support.receiver import NO_BROKER, Receiver, started
from tests.support.search_places import KINDS, Place, opensearch_place, sqlite_place
from tests.support.valkey import Valkey
from workers.search.index import SearchIndex
from workers.search.opensearch_cluster import Access


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A connection to a server of the module's own; modules that stop or flush one have another."""
    server = Valkey(Path(tmp_path_factory.mktemp("valkey"))).start()
    with server.client() as client:
        yield client
    server.close()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Access]:
    """The real cluster of `--search-url`, else a stand-in."""
    url = request.config.getoption("--search-url")
    if url:
        yield access_from_environment(url)
    else:
        with stand_in() as access:
            yield access


@pytest.fixture(scope="module", params=KINDS)
def make_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], AbstractContextManager[Place]]:
    """Makes a place for an empty search index, of each kind in turn."""
    if request.param == "opensearch":
        return lambda: opensearch_place(request.getfixturevalue("cluster"))
    return lambda: sqlite_place(tmp_path_factory.mktemp("search"))


@pytest.fixture
def place(make_place: Callable[[], AbstractContextManager[Place]]) -> Iterator[Place]:
    with make_place() as made:
        yield made


@pytest.fixture
def index(place: Place) -> Iterator[SearchIndex]:
    with closing(place.open()) as opened:
        yield opened


@pytest.fixture(scope="package")
def receiver(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path, shared_valkey: Valkey) -> Iterator[Receiver]:
    """One process for all tests that break nothing."""
    with started(tmp_path_factory.mktemp("receiver"), empty_ledger, shared_valkey.url) as one:
        yield one


@pytest.fixture
def lonely(tmp_path: Path, empty_ledger: Path) -> Iterator[Receiver]:
    """A receiver of the test's own whose broker is away."""
    with started(tmp_path, empty_ledger, NO_BROKER) as one:
        yield one
