"""The part of a checkup that looks at the ledger: schema, durability, disk, clocks, and the inbox."""

import shutil
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from workers.errors import RetroscribeError
from workers.ledger import durability, events
from workers.ledger.engine import sqlite_path
from workers.pipeline import acceptance
from workers.pipeline.checkup_http import Ask
from workers.pipeline.finding import Finding, ok, warning, wrong
from workers.resources import Resources

OLDEST_POSTGRESQL: Final = 140_000
DURABLE: Final = {
    "journal_mode": ("wal",),
    "synchronous": ("normal", "full", "extra"),  # normal is enough for a log that we sync ourselves
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "synchronous_commit": ("on", "local", "remote_write", "remote_apply"),
}
#: Below the first a backfill soon has no room, below the second nothing that is paid for may be written down.
LITTLE_SPACE: Final = 1_000_000_000
NO_SPACE: Final = 100_000_000
#: An answer's latency may look like a difference of a second, a Date header has whole seconds.
CLOCKS_DIFFER_SECONDS: Final = 5.0
#: A submission's whole call: a sweep whose clock is ahead by the rest of the lease takes a live one for lost.
CALL_SECONDS: Final = 25.0
EVENT_IS_OLD_SECONDS: Final = 60.0
MOST_COUNTED: Final = 1000


def check_ledger(resources: Resources) -> Finding:
    """Whether it is there with the schema of this version."""
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


def check_durability(resources: Resources) -> Finding:
    """Whether what the ledger has committed, such as an intent to pay, outlives a power cut."""
    with resources.ledger.read() as tx:
        (name, version), settings = durability.product(tx), durability.settings(tx)
    return judge_durability(name, version, settings)


def judge_durability(name: str, version: int, settings: Mapping[str, str]) -> Finding:
    """What there is to say of a database that says this of itself; `version` is 0 for a file."""
    shown = ", ".join(f"{setting} {value}" for setting, value in settings.items())
    weak = [f"{setting} {value}" for setting, value in settings.items() if value not in DURABLE[setting]]
    if weak:
        found = f"{name} may lose what it has committed when the power fails ({', '.join(weak)})"
        if version:
            names = " and ".join(one.split()[0] for one in weak)
            fix = f"Have its operator set {names} to on: else a recording may be paid for twice."
            return warning("durability", found, fix)
        return warning("durability", found, "Put the ledger on a local disk whose file system lets SQLite keep a WAL.")
    if 0 < version < OLDEST_POSTGRESQL:
        fix = "Move the ledger to PostgreSQL 14 or newer."
        return warning("durability", f"{name} is older than any that Retroscribe was tested with", fix)
    return ok("durability", f"{name} keeps what it has committed ({shown})")


def check_disk(resources: Resources) -> Finding:
    """Whether home and ledger have room."""
    settings = resources.settings
    files = (settings.home, sqlite_path(settings.effective_database_url), settings.search_path)
    folders = {_existing(path) for path in files if path is not None}
    free, folder = min((shutil.disk_usage(folder).free, folder) for folder in folders)
    found = f"{free / 1e9:.1f} GB are free at {folder}"
    fix = f"Make room there: at least {LITTLE_SPACE / 1e9:g} GB, and twice the ledger's size for `retroscribe forget`."
    if free < NO_SPACE:
        return wrong("disk", found, fix)
    return warning("disk", found, fix) if free < LITTLE_SPACE else ok("disk", found)


def check_clocks(resources: Resources, ask: Ask) -> Finding:
    """How far this machine's clock is from those of Redis, of the database's server and of the API.

    The limiter goes by Redis and the leases by the database, so neither minds. What is due, and when a submission's
    lease is over, is written by one machine's clock and read by another's.
    """
    known = {"Redis": _redis_clock(resources), "the database": _database_clock(resources)}
    servers = {name: skew for name, skew in known.items() if skew is not None}
    api = _api_clock(resources, ask)
    differences = servers | ({} if api is None else {"the API": api})
    if not differences:
        return warning("clocks", "no other clock could be looked at", "Mend redis and api first.")
    shown = ", ".join(f"{_apart(skew)} {name}" for name, skew in differences.items())
    fix = "Have this machine's clock kept by NTP (`timedatectl set-ntp true`, or chrony), and those of the servers."
    most = resources.settings.submit_lease_seconds - CALL_SECONDS
    if any(abs(skew) >= most for skew in servers.values()):
        found = f"this machine's clock is {shown}: from {most:g} s on the sweep may take a live submission for lost"
        return wrong("clocks", found, fix)
    if any(abs(skew) >= CLOCKS_DIFFER_SECONDS for skew in differences.values()):
        found = f"this machine's clock is {shown}: latencies and deadlines are off by as much"
        return warning("clocks", found, fix)
    most = max(1.0, *map(abs, differences.values()))
    return ok("clocks", f"this machine's is within {most:.0f} s of {_and(differences)}")


def check_inbox(resources: Resources) -> Finding:
    """Whether events are applied, and acceptances that a full disk or a lost ledger left in a file were taken in."""
    before = time.time() - EVENT_IS_OLD_SECONDS
    with resources.ledger.read() as tx:
        late = len(events.recordings_with_waiting(tx, MOST_COUNTED, before))
    spool = acceptance.spool_folder(resources.settings.home)
    unusable = len(list(spool.glob("*.unusable")))
    if unusable:
        found = f"{spool} holds acceptances that the ledger did not know: {unusable}"
        return warning("inbox", found, "Read each, then `retroscribe resolve REF --adopt ID`, and remove the file.")
    if late:
        whose = "one recording" if late == 1 else f"{late} recordings" + (" and more" if late == MOST_COUNTED else "")
        found = f"nobody has applied the events of {whose} for over a minute"
        return warning("inbox", found, "Start another `retroscribe worker --role index`, or see its log.")
    return ok("inbox", "no event waits for longer than a minute")


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _redis_clock(resources: Resources) -> float | None:
    try:
        began = time.time()
        seconds, micro = resources.redis.time()
        return float(seconds + micro / 1e6 - (began + time.time()) / 2)
    except Exception:  # noqa: BLE001 the errors of redis; its own line says so
        return None


def _database_clock(resources: Resources) -> float | None:
    path = sqlite_path(resources.settings.effective_database_url)
    if path is not None:
        return None
    try:
        with resources.ledger.read() as tx:
            began = time.time()
            told = durability.clock(tx)
            return None if told is None else told - (began + time.time()) / 2
    except RetroscribeError:
        return None


def _api_clock(resources: Resources, ask: Ask) -> float | None:
    try:
        reply = ask(resources.settings.genesys.base_url)
        told = parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (RetroscribeError, ValueError, TypeError, OverflowError, IndexError):
        return None
    # It was written while we waited, and cut to whole seconds.
    return told + 0.5 - (reply.at + reply.seconds / 2)


def _apart(skew: float) -> str:
    return f"{abs(skew):.1f} s {'behind' if skew > 0 else 'ahead of'}"


def _and(names: Mapping[str, float]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
