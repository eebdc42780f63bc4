"""Looks at everything a deployment needs, in the order in which one thing rests on another."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from config import queues
from config.rabbitmq import OLDEST, speaks_amqp
from config.settings import Settings, SettingsProblem
from workers.errors import Halted, PartUnreachable, RateLimited, RetroscribeError, Retryable
from workers.ledger import controls
from workers.ledger.engine import sqlite_path
from workers.model import CallClass
from workers.pipeline.checkup_settings import check_home, check_settings
from workers.pipeline.finding import Finding, ok, warning, wrong
from workers.pipeline.poll import ask_route
from workers.pipeline.way_back import NO_WAY, WayBack, way_back
from workers.resources import Resources

#: Makes a GET request and gives the HTTP status, whichever; raises PartUnreachable when there was no answer.
Ask = Callable[[str], int]

OLDEST_REDIS: Final = (6, 2)
PERMIT_SECONDS: Final = 10.0
_SEARCH_FIX: Final = (
    "Correct RETROSCRIBE_SEARCH_URL or what is there; `retroscribe reindex` builds a new index from the ledger."
)


@dataclass(frozen=True, slots=True)
class _Check:
    """One line of the checkup: `fix` is for when it raises, `needs` names the checks without which it says nothing."""

    name: str
    run: Callable[[Resources], Finding]
    fix: str
    needs: tuple[str, ...] = ()


def checkup(ask: Ask) -> list[Finding]:
    """What every check found, in order; none of it holds a secret.

    Sends nothing to the API but a request without a path and, under permits, one for a token when the fleet has none
    and one status look-up while none was ever answered. Never raises: whatever goes wrong is a finding.
    """
    settings, first = check_settings()
    resources = Resources(settings) if settings else None
    findings, failed = [first], set() if resources else {first.name}
    for check in _checks(settings, ask):
        missing = next((name for name in (first.name, *check.needs) if name in failed), None)
        if missing or resources is None:
            failed.add(check.name)
            why = f"not checked, because {missing} must be right first"
            findings.append(warning(check.name, why, f"Mend {missing} first."))
            continue
        finding = _looked(check, resources)
        findings.append(finding)
        if finding.is_wrong:
            failed.add(check.name)
    if resources is not None:
        resources.close()
    return [finding.without_passwords() for finding in findings]


def _checks(settings: Settings | None, ask: Ask) -> Iterator[_Check]:
    other_broker = settings is not None and settings.broker_url not in (None, settings.redis_url)
    start = "Start `retroscribe up`" if settings is None or settings.embedded_redis else "Start the server"
    correct = "Correct it in the environment or .env."
    receiver = "Start `retroscribe receiver`, or correct RETROSCRIBE_PUBLIC_URL or RETROSCRIBE_RECEIVER_PORT."
    yield _Check("home", lambda resources: check_home(resources.settings), "Set RETROSCRIBE_HOME to another folder.")
    yield _Check("redis", _redis, f"{start}, or correct RETROSCRIBE_REDIS_URL.")
    if other_broker:
        yield _Check("broker", _broker, "Start the server, or correct RETROSCRIBE_BROKER_URL.")
    yield _Check("ledger", _ledger, "Start the database, or correct RETROSCRIBE_DATABASE_URL.")
    yield _Check("credentials", _credentials, correct)
    yield _Check("api", lambda resources: _api(resources, ask), "Check the network and GENESYS_BASE_URL.")
    yield _Check("token", _token, correct, needs=("redis", "credentials", "api"))
    yield _Check("halt", _halt, "Run `retroscribe migrate`.", needs=("ledger", "credentials"))
    yield _Check("results", _results, "Run `retroscribe migrate`.", needs=("ledger", "credentials"))
    yield _Check("limits", _limits, "See that Redis lets this user run scripts.", needs=("redis", "credentials"))
    yield _Check("receiver", lambda resources: _receiver(resources, ask), receiver)
    broker = "broker" if other_broker else "redis"
    yield _Check("workers", _workers, "See that the broker lets this user publish.", needs=(broker,))
    yield _Check("search", _search, _SEARCH_FIX)


def _looked(check: _Check, resources: Resources) -> Finding:
    try:
        return check.run(resources)
    except (SettingsProblem, Halted) as error:
        return wrong(check.name, str(error), check.fix)
    except RetroscribeError as error:
        return wrong(check.name, str(error), check.fix, unreachable=True)
    except ModuleNotFoundError as error:
        fix = f"Install {error.name} into the environment of retroscribe."
        return wrong(check.name, f"the Python package {error.name} is missing", fix, unreachable=True)
    except Exception as error:  # noqa: BLE001 one part's oddity must not hide what there is to say about the others
        # Only the kind: drivers quote URLs and values.
        return wrong(check.name, f"failed with {type(error).__name__}", check.fix, unreachable=True)


def _redis(resources: Resources) -> Finding:
    settings = resources.settings
    if settings.embedded_redis and not settings.socket_path.exists():
        raise PartUnreachable(f"no embedded server runs for the home {settings.home}")
    return _server("redis", resources, settings.effective_redis_url)


def _broker(resources: Resources) -> Finding:
    url = resources.settings.broker_url or ""
    if speaks_amqp(url):
        return _rabbitmq(url)
    other = Resources(resources.settings.model_copy(update={"redis_url": url}))
    try:
        return _server("broker", other, url)
    finally:
        other.close()


def _rabbitmq(url: str) -> Finding:
    from workers import dispatch  # noqa: PLC0415 Celery takes half a second to load

    try:
        found, version = dispatch.declare_queues()
    except PartUnreachable as error:
        found, _, fix = str(error).partition(": ")
        return wrong("broker", f"{url}: {found}", f"{fix[:1].upper()}{fix[1:]}", unreachable=True)
    if version < OLDEST:
        fix = f"Use RabbitMQ {'.'.join(map(str, OLDEST))} or newer."
        return wrong("broker", f"{found} at {url} is too old", fix, unreachable=True)
    return ok("broker", f"{found} at {url} has the queues")


def _server(name: str, resources: Resources, url: str) -> Finding:
    try:
        info: Any = resources.redis.info()
    except Exception as error:  # noqa: BLE001 the errors of redis, which only resources.py may import
        raise PartUnreachable(f"{url} does not answer as it should ({type(error).__name__})") from None
    version = str(info.get("redis_version", "0"))
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_REDIS:
        found = f"{url} speaks for Redis {version}, which is too old"
        return wrong(name, found, "Use Redis 6.2 or newer, or Valkey.", unreachable=True)
    product = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found = f"{product} at {url} drops keys when its memory is full (maxmemory-policy {policy})"
        return warning(name, found, "Set its maxmemory-policy to noeviction, else messages and limits may go.")
    if not info.get("aof_enabled", 0):
        found = f"{product} at {url} forgets everything when it restarts (appendonly no)"
        return warning(name, found, "Set its appendonly to yes, else what was queued waits for the sweep.")
    return ok(name, f"{product} at {url}")


def _ledger(resources: Resources) -> Finding:
    from workers.ledger.migrate import current_version, head_version  # noqa: PLC0415 Alembic is slow to load

    url = resources.settings.effective_database_url
    path = sqlite_path(url)
    if path is not None and not path.exists():
        # Opening it would make an empty one.
        return wrong("ledger", f"there is none at {path}", "Run `retroscribe migrate` to make it.", unreachable=True)
    current, head = current_version(resources.ledger), head_version()
    if current != head:
        found = "has no tables yet" if current is None else f"has schema {current}, this version needs {head}"
        return wrong("ledger", f"{path or url} {found}", "Run `retroscribe migrate` once.", unreachable=True)
    return ok("ledger", f"{path or url} has schema {head}")


def _credentials(resources: Resources) -> Finding:
    resources.settings.genesys.credentials()
    return ok("credentials", "GENESYS_CLIENT_ID and GENESYS_CLIENT_SECRET are set")


def _api(resources: Resources, ask: Ask) -> Finding:
    url = resources.settings.genesys.base_url
    ask(url)  # any answer will do: there is nothing to be found without a path
    return ok("api", f"{url} answers")


def _token(resources: Resources) -> Finding:
    try:
        with _impatient(resources):
            resources.tokens.get()
    except RateLimited:
        found = f"there was no leave to fetch an access token within {PERMIT_SECONDS:g} s"
        return warning("token", found, "Wait until the gate for tokens is open, see limits, and look again.")
    except Retryable as error:
        return wrong("token", str(error), "Check the network and GENESYS_TOKEN_URL, then look again.", unreachable=True)
    # The client is built when a token is really fetched.
    if "client" not in vars(resources):
        return ok("token", "the fleet's access token still lives; the credentials are tried when it runs out")
    return ok("token", "there is an access token")


@contextmanager
def _impatient(resources: Resources) -> Iterator[None]:
    """A closed gate would be waited for up to a minute."""
    impatience = threading.Timer(PERMIT_SECONDS, resources.stopping.set)
    impatience.start()
    try:
        yield
    finally:
        impatience.cancel()


def _halt(resources: Resources) -> Finding:
    with resources.ledger.read() as tx:
        standing = controls.halt(tx, resources.client_key)
    if standing is None:
        return ok("halt", "none stands")
    since, probe = (
        datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") for at in (standing.since, standing.next_probe_at)
    )
    found = f"nothing is submitted since {since} ({standing.reason}), next probe {probe}: {standing.detail}"
    return wrong("halt", found, "Mend the OAuth client; the probe each minute then lifts the halt by itself.")


def _results(resources: Resources) -> Finding:
    with suppress(RetroscribeError), _impatient(resources):  # why the API can't be asked, other lines say
        ask_route(resources)
    with resources.ledger.read() as tx:
        route = controls.status_route(tx, resources.client_key)
        way = way_back(tx, resources)
    if way == WayBack.NONE:
        return wrong("results", f"there is no way back ({route.why if route else ''})", NO_WAY)
    if way == WayBack.UNPROVED:
        found = "by status look-ups only, none of which was answered yet: one recording goes first and shows it"
        return warning("results", found, "Set RETROSCRIBE_PUBLIC_URL, so that the API can call the receiver.")
    if way == WayBack.POLLING:
        return ok("results", "come by status look-ups")
    if route is not None and not route.works:
        found = f"come by webhook only, the API has no status route ({route.why})"
        return warning("results", found, "Keep the receiver up: nothing makes up for a webhook that is lost.")
    return ok("results", "come by webhook, and by a status look-up where one is lost")


def _limits(resources: Resources) -> Finding:
    states = [resources.limiter.snapshot(call_class) for call_class in CallClass]
    found = ", ".join(
        f"{one.call_class} {one.rate:.3g} of {one.configured:g}/s"
        + (f" (gate closed for {one.gate_seconds:.1f} s: {one.gate_reason})" if one.gate_seconds else "")
        for one in states
    )
    if any(one.gate_seconds for one in states):
        fix = (
            "Wait, a gate opens by itself; if it keeps closing, see who else uses the limit and whether the API is up."
        )
        return warning("limits", found, fix)
    return ok("limits", f"{found}, gates open")


def _receiver(resources: Resources, ask: Ask) -> Finding:
    base = resources.settings.callback_base_url
    if base is None:
        found = "polling only: the API has no way to reach the receiver, so no webhooks are asked for"
        return warning("receiver", found, "Set RETROSCRIBE_PUBLIC_URL to the receiver's https address.")
    status = ask(f"{base}/healthz")
    if status != 200:
        raise PartUnreachable(f"{base}/healthz answers HTTP {status}, which the receiver would not")
    return ok("receiver", f"{base} answers")


def _workers(_: Resources) -> Finding:
    from workers import dispatch  # noqa: PLC0415 Celery takes half a second to load

    missing = set(queues.ALL) - dispatch.consumed_queues()
    if not missing:
        return ok("workers", "every queue has a consumer")
    roles, left = [], set(missing)
    for role, consumed in queues.ROLES.items():
        if left.intersection(consumed):
            roles.append(f"`retroscribe worker --role {role}`")
            left.difference_update(consumed)
    found = f"nobody consumes {', '.join(name for name in queues.ALL if name in missing)}"
    return wrong("workers", found, f"Start `retroscribe up`, or {' and '.join(roles)}.", unreachable=True)


def _search(resources: Resources) -> Finding:
    settings = resources.settings
    path = settings.search_path
    if path is not None and not path.exists():
        return ok("search", f"{path} is not there yet; the first transcript makes it")
    where = path or f"the index {settings.search_index} at {settings.search_url}"
    if path is None:
        resources.index.check()  # quick, while the embedded one would be read through
    return ok("search", f"{where} holds {resources.index.count()} documents")
