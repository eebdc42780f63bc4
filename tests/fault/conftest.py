"""One fleet for all fault tests: each asks for recordings of its own, and finds everything running."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import CATALOGUE, RATE, Broker, Fleet
from tests.support.postgres import Postgres
from tests.support.sandbox import Sandbox


@contextmanager
def running_fleet(folder: Path, **options: Any) -> Iterator[Fleet]:
    """A worker that dies while it submits owns the submission for 10 s, less than production allows."""
    broker = Broker(folder).start()
    with Sandbox(rate=RATE, processing_seconds=0.2, count=CATALOGUE) as sandbox:
        fleet = Fleet(folder, sandbox, broker, unchecked={"submit_lease_seconds": 10}, **options)
        yield fleet
        fleet.close()
    broker.close()


@pytest.fixture(scope="package")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running_fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def shared_fleet_on_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Its server is its own, so that killing it disturbs no other test."""
    postgres = Postgres().start()
    postgres.make_ledger()
    folder = tmp_path_factory.mktemp("fleet")
    with running_fleet(folder, database_url=postgres.url(), servers={"postgres": postgres}) as fleet:
        yield fleet
    postgres.close()


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Fleet:
    """All parts run, nothing is wrong."""
    shared_fleet.heal()
    return shared_fleet


@pytest.fixture
def fleet_on_postgres(shared_fleet_on_postgres: Fleet) -> Fleet:
    """The same over a PostgreSQL, which it knows as the server "postgres"."""
    shared_fleet_on_postgres.heal()
    return shared_fleet_on_postgres
