"""What tests share: real servers, settings of their own in an empty folder, and the option `--all`."""

import logging
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import uvicorn

from config.genesys import GenesysSettings
from config.logging import AUDIT_LOGGER
from config.settings import load_settings
from config.urls import kombu_url
from tests.support.desk import Desk
from tests.support.eventually import eventually
from tests.support.postgres import Postgres
from tests.support.sandbox import Sandbox
from tests.support.valkey import Valkey
from workers.app import app
from workers.ledger.engine import Ledger
from workers.ledger.migrate import migrate
from workers.receiver.app import make_app
from workers.resources import Resources

MakeResources = Callable[..., Resources]

# What Celery has declared stays from test to test.
KEPT_KEYS = b"_kombu."


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also run the tests marked slow")
    parser.addoption(
        "--search-url",
        metavar="URL",
        help="a real cluster for tests/contract/test_search_index.py; its credentials from RETROSCRIBE_SEARCH_...",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes long; run by `make test-all` (pytest --all) only")
    config.addinivalue_line("markers", "both_ledgers: runs once over SQLite and once over PostgreSQL")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ledger_url" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_ledgers"):
        metafunc.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with --all"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One server for all tests that need a broker, a limiter and a token cache, but don't stop it."""
    server = Valkey(tmp_path_factory.mktemp("shared-valkey")).start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    """A stand-in for the API that is quick and, but for tokens, hardly limits."""
    with Sandbox(rate=1000, processing_seconds=0.05) as server:
        yield server


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite ledger without rows, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite3"
    ledger = Ledger(f"sqlite:///{path}")
    migrate(ledger)
    ledger.close()
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests that want one; whoever stops it starts it again."""
    server = Postgres().start()
    server.make_ledger()
    yield server
    server.close()


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest, empty_ledger: Path, tmp_path: Path) -> str:
    """An empty ledger: a file of the test's own, with the marker `both_ledgers` also the server's."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    if getattr(request, "param", "sqlite") == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.empty_ledger()
    path = shutil.copy(empty_ledger, home / "ledger.sqlite3")
    return f"sqlite:///{path}"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url)
    yield opened
    opened.close()


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    """The sandbox without faults, its counters at zero."""
    shared_sandbox.faults()
    shared_sandbox.reset()
    return shared_sandbox


def _of_the_sandbox(key: bytes, request: pytest.FixtureRequest) -> bool:
    """Its token and that one's limit of one a second stay too; not those of a server that had another's port before."""
    if not (key.startswith(b"retroscribe:token:") or key.endswith(b":token")):
        return False
    env = request.getfixturevalue("shared_sandbox").env
    settings = GenesysSettings(base_url=env["GENESYS_BASE_URL"], client_id=env["GENESYS_CLIENT_ID"])
    return settings.client_key.encode() in key


@pytest.fixture
def broker(request: pytest.FixtureRequest, shared_valkey: Valkey) -> Iterator[redis.Redis]:
    """An empty broker, to which this process's Celery app sends."""
    with shared_valkey.client() as client:
        stale = [
            key for key in client.scan_iter() if not key.startswith(KEPT_KEYS) and not _of_the_sandbox(key, request)
        ]
        if stale:
            client.delete(*stale)
        before = app.conf.broker_url
        _send_to(kombu_url(shared_valkey.url))
        yield client
        _send_to(before)


def _send_to(url: str) -> None:
    # Whoever sent something before has left pools of connections to the broker of the settings at import.
    if app.conf.broker_url != url:
        app.conf.broker_url = url
        app._pool = None
        app.amqp._producer_pool = None


@pytest.fixture
def environment(
    ledger_url: str,
    shared_valkey: Valkey,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """The only settings there are, in the environment of this process, whose folder is the empty tmp_path."""
    for name in os.environ:
        if name.startswith(("RETROSCRIBE_", "GENESYS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    wanted = {
        "RETROSCRIBE_HOME": str(tmp_path / "home"),
        "RETROSCRIBE_REDIS_URL": shared_valkey.url,
        "RETROSCRIBE_RECEIVER_PORT": str(free_port()),
        "RETROSCRIBE_SUBMIT_LIMIT": "1000",
        "RETROSCRIBE_MEDIA_LIMIT": "2000",
        "RETROSCRIBE_STATUS_LIMIT": "1000",
        **sandbox.env,
        **_shared(ledger_url),
    }
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    return wanted


def _shared(ledger_url: str) -> dict[str, str]:
    """What has to be set for a ledger that is not in the home."""
    if ledger_url.startswith("sqlite"):
        return {}
    return {"RETROSCRIBE_DATABASE_URL": ledger_url, "RETROSCRIBE_WEBHOOK_SECRETS": "a secret for all machines"}


@pytest.fixture
def make_resources(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeResources]:
    """Builds resources over real parts; arguments are environment variables that differ."""
    built: list[Resources] = []

    def make(**changes: str) -> Resources:
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        built.append(Resources(load_settings()))
        return built[-1]

    yield make
    for resources in built:
        resources.close()


@pytest.fixture
def resources(make_resources: MakeResources) -> Resources:
    return make_resources()


@pytest.fixture
def desk(resources: Resources, broker: redis.Redis) -> Desk:
    """A person's view of the pipeline: asks for recordings and looks at what became of them."""
    return Desk(resources, broker)


@pytest.fixture
def receiver(resources: Resources, broker: redis.Redis) -> Iterator[uvicorn.Server]:
    """The webhook receiver at the address that callback URIs name."""
    config = uvicorn.Config(
        make_app(resources), port=resources.settings.receiver_port, log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, what="the receiver")
    yield server
    server.should_exit = True
    thread.join()


@pytest.fixture
def audit_records() -> Iterator[list[str]]:
    """The lines that go to the audit log while the test runs."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger(AUDIT_LOGGER), Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.setLevel(level)
    logger.removeHandler(handler)
