"""Looks at everything a deployment needs, in the order in which one thing rests on another."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from config.rabbitmq import OLDEST, speaks_amqp
from config.setting_types import SettingsProblem
from config.settings import Settings
from workers.errors import Halted, InputError, PartUnreachable, RetroscribeError
from workers.pipeline import checkup_api, checkup_fleet, checkup_ledger
from workers.pipeline.checkup_http import Ask, Sign
from workers.pipeline.checkup_receiver import check_receiver
from workers.pipeline.checkup_settings import check_home, check_settings
from workers.pipeline.checkup_versions import check_versions
from workers.pipeline.finding import Finding, ok, warning, wrong
from workers.resources import Resources

OLDEST_REDIS: Final = (6, 2)
#: Nothing is dropped, so what doesn't fit is refused: no permit, no message, nothing goes on.
FULL: Final = 0.8


@dataclass(frozen=True, slots=True)
class _Check:
    """One line of the checkup: `fix` is for when it raises, `needs` names the checks without which it says nothing."""

    name: str
    run: Callable[[Resources], Finding]
    fix: str
    needs: tuple[str, ...] = ()


def checkup(ask: Ask, sign: Sign) -> list[Finding]:
    """What every check found, in order; none of it holds a secret.

    Sends nothing to the API but requests without a path and, under permits, one for a token and one status look-up
    while none was ever answered. Never raises: whatever goes wrong is a finding.
    """
    settings, first = check_settings()
    resources = Resources(settings) if settings else None
    findings, failed = [first], set() if resources else {first.name}
    for check in _checks(settings, ask, sign):
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


def _checks(settings: Settings | None, ask: Ask, sign: Sign) -> Iterator[_Check]:
    other_broker = settings is not None and settings.broker_url not in (None, settings.redis_url)
    start = "Start `retroscribe up`" if settings is None or settings.embedded_redis else "Start the server"
    correct = "Correct it in the environment or .env."
    reach = "Start `retroscribe receiver`, and see that RETROSCRIBE_PUBLIC_URL, its name and its certificate are right."
    migrate = "Run `retroscribe migrate`."
    index = "Correct RETROSCRIBE_SEARCH_URL or what is there; `retroscribe reindex` builds a new one from the ledger."
    broker = "broker" if other_broker else "redis"
    yield _Check("versions", lambda it: check_versions(it.settings), "Install from requirements.lock.")
    yield _Check("home", lambda it: check_home(it.settings), "Set RETROSCRIBE_HOME to another folder.")
    yield _Check("disk", checkup_ledger.check_disk, "Set RETROSCRIBE_HOME to another folder.")
    yield _Check("redis", check_redis, f"{start}, or correct RETROSCRIBE_REDIS_URL.")
    if other_broker:
        yield _Check("broker", _broker, "Start the server, or correct RETROSCRIBE_BROKER_URL.")
    yield _Check("ledger", checkup_ledger.check_ledger, "Start the database, or correct RETROSCRIBE_DATABASE_URL.")
    yield _Check("durability", checkup_ledger.check_durability, migrate, needs=("ledger",))
    yield _Check("credentials", checkup_api.check_credentials, correct)
    yield _Check("api", lambda it: checkup_api.check_api(it, ask), "Check the network and GENESYS_BASE_URL.")
    yield _Check("clocks", lambda it: checkup_ledger.check_clocks(it, ask), "Have the clock kept by NTP.")
    yield _Check("token", checkup_api.check_token, correct, needs=("redis", "credentials", "api"))
    yield _Check("scopes", checkup_api.check_scopes, correct, needs=("credentials",))
    yield _Check("halt", checkup_api.check_halt, migrate, needs=("ledger", "credentials"))
    yield _Check("results", checkup_api.check_results, migrate, needs=("ledger", "credentials"))
    limits = "See that Redis lets this user run scripts."
    yield _Check("limits", checkup_api.check_limits, limits, needs=("redis", "credentials"))
    yield _Check("receiver", lambda it: check_receiver(it, ask, sign), reach)
    publish = "See that the broker lets this user publish."
    yield _Check("workers", checkup_fleet.check_workers, publish, needs=(broker,))
    yield _Check("beat", checkup_fleet.check_beat, migrate, needs=("ledger", "workers"))
    yield _Check("inbox", checkup_ledger.check_inbox, migrate, needs=("ledger",))
    yield _Check("search", checkup_fleet.check_search, index)
    yield _Check("flower", lambda it: checkup_fleet.check_flower(it, ask), "Set RETROSCRIBE_FLOWER_PORT.")


def _looked(check: _Check, resources: Resources) -> Finding:
    try:
        return check.run(resources)
    except (SettingsProblem, Halted, InputError) as error:
        return wrong(check.name, str(error), check.fix)
    except RetroscribeError as error:
        return wrong(check.name, str(error), check.fix, unreachable=True)
    except ModuleNotFoundError as error:
        fix = f"Install {error.name} into the environment of retroscribe."
        return wrong(check.name, f"the Python package {error.name} is missing", fix, unreachable=True)
    except Exception as error:  # noqa: BLE001 one part's oddity must not hide what there is to say about the others
        # Only the kind: drivers quote URLs and values.
        return wrong(check.name, f"failed with {type(error).__name__}", check.fix, unreachable=True)


def check_redis(resources: Resources) -> Finding:
    """Whether the server of limiter and token is new enough, keeps what it is given, and has room."""
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
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used >= FULL * most:
        found = f"{product} at {url} uses {used / 1e6:.0f} of {most / 1e6:.0f} MB"
        fix = "Raise its maxmemory, or see what else is kept there: Retroscribe's own share is some MB."
        return (wrong if used >= most else warning)(name, found, fix)
    if not info.get("aof_enabled", 0):
        found = f"{product} at {url} forgets everything when it restarts (appendonly no)"
        return warning(name, found, "Set its appendonly to yes, else what was queued waits for the sweep.")
    return ok(name, f"{product} at {url} uses {used / 1e6:.0f} MB" + (f" of {most / 1e6:.0f}" if most else ""))
