"""Everything on one machine: which processes run, in which order, and when they are ready."""

import sys
import threading
from collections.abc import Callable
from typing import Final

import httpx

from config import queues
from config.settings import Settings
from workers import dispatch
from workers.errors import PartUnreachable
from workers.ledger import recordings
from workers.ledger.engine import Ledger
from workers.ledger.migrate import migrate
from workers.stack.home import occupied
from workers.stack.supervisor import Child, Supervisor
from workers.stack.valkey import valkey_child

#: Longer than a call to the API may take (25 s), so that none is cut off by a stop.
WORKER_STOP_SECONDS: Final = 26.0
_SERVER, _PARTS, _PAGES = 0, 1, 2


def run_stack(
    settings: Settings,
    stop: threading.Event,
    log: Callable[[str, str], None],
    started: Callable[[list[str]], None],
) -> None:
    """Runs the embedded stack until `stop` is set; `started` gets the lines that say where everything is.

    What has a URL set is used, the rest is started. Raises PartUnreachable when a part can't be started or the home is
    in use, InputError when the home can't be used.
    """
    settings.genesys.credentials()
    with occupied(settings.home):
        _ = settings.signing_secrets  # made before several processes ask for it at once
        _prepare(settings)
        Supervisor(children(settings), log).run(stop, started=lambda: started(addresses(settings)))


def _prepare(settings: Settings) -> None:
    """Brings the ledger up to date, and has everything polled whose webhook may have come while nobody listened."""
    ledger = Ledger(settings.effective_database_url)
    migrate(ledger)
    with ledger.write() as tx:
        recordings.look_again(tx)
    ledger.close()


def children(settings: Settings) -> list[Child]:
    """The processes of the stack for these settings."""
    server = [valkey_child(settings.home, settings.socket_path, stage=_SERVER)] if settings.embedded_redis else []
    environment = {"RETROSCRIBE_HOME": str(settings.home), "PYTHONUNBUFFERED": "1"}
    consumed = _Consumed()
    workers = [
        Child(
            name=role,
            argv=_command("worker", "--role", role),
            env=environment,
            ready=lambda role=role: consumed.has(queues.ROLES[role]),  # type: ignore[misc]
            stage=_PARTS,
            stop_seconds=WORKER_STOP_SECONDS,
        )
        for role in queues.ROLES
    ]
    receiver = f"{settings.receiver_scheme}://{_host(settings.receiver_host)}:{settings.receiver_port}/readyz"
    flower = f"http://{_host(settings.flower_host)}:{settings.flower_port}/healthcheck"
    return [
        *server,
        Child("receiver", _command("receiver", "--fleet-metrics"), environment, lambda: _answers(receiver), _PARTS),
        *workers,
        Child("beat", _command("beat"), environment, None, _PARTS),
        # Flower asks the workers what they consume when it starts, and never again. It has nothing to finish, so it
        # gets no time to stop: it would take seconds of what the workers need for their calls.
        Child("flower", _command("flower"), environment, lambda: _answers(flower), _PAGES, stop_seconds=0.0),
    ]


def addresses(settings: Settings) -> list[str]:
    """Where everything is, a line each."""
    callback = settings.callback_base_url
    return [
        f"ledger    {_shown(settings.effective_database_url)}",
        f"broker    {_shown(settings.broker_url or settings.effective_redis_url)}",
        f"receiver  {settings.receiver_scheme}://{_host(settings.receiver_host)}:{settings.receiver_port}",
        f"callbacks {callback or 'none: the API can not reach us, so completion is polled (RETROSCRIBE_PUBLIC_URL)'}",
        f"flower    http://{_host(settings.flower_host)}:{settings.flower_port}",
        *_metrics(settings),
        f"API       {settings.genesys.base_url}",
    ]


def _metrics(settings: Settings) -> list[str]:
    if not settings.metrics_port:
        return []
    return [f"metrics   http://{_host(settings.metrics_host)}:{settings.metrics_port}/metrics"]


class _Consumed:
    """The queues that have a consumer; asking takes a while, so once is enough for all who want to know."""

    def __init__(self) -> None:
        self._queues: set[str] = set()

    def has(self, names: tuple[str, ...]) -> bool:
        if not self._queues.issuperset(names):
            try:
                self._queues |= dispatch.consumed_queues(timeout_seconds=0.3)
            except PartUnreachable:
                return False
        return self._queues.issuperset(names)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "workers.cli.main", *arguments]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0, trust_env=False, verify=False).is_success  # noqa: S501 our own
    except httpx.HTTPError:
        return False


def _host(host: str) -> str:
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 compared, not bound
    return everywhere.get(host, f"[{host}]" if ":" in host else host)


def _shown(url: str) -> str:
    """The URL without its password."""
    before, at, after = url.rpartition("@")
    scheme, _, credentials = before.partition("://")
    return f"{scheme}://{credentials.partition(':')[0]}:***@{after}" if at else url
