"""What the contract tests of the limiter's script share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.valkey import Valkey


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A connection to a server of the module's own; modules that stop or flush one have another."""
    server = Valkey(Path(tmp_path_factory.mktemp("valkey"))).start()
    with server.client() as client:
        yield client
    server.close()
