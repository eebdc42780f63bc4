"""What the contract tests of the limiter's script share, and the receivers that several modules send to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.receiver import NO_BROKER, Receiver, started
from tests.support.valkey import Valkey


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A connection to a server of the module's own; modules that stop or flush one have another."""
    server = Valkey(Path(tmp_path_factory.mktemp("valkey"))).start()
    with server.client() as client:
        yield client
    server.close()


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
