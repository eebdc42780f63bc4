"""The part of a checkup that is about our own processes: workers, beat, Flower, and the search index."""

import time
from typing import Final

from config import queues
from config.urls import is_loopback_host
from workers.errors import PartUnreachable
from workers.ledger import leases, transcripts
from workers.model import State
from workers.pipeline.checkup_http import Ask
from workers.pipeline.finding import Finding, ok, warning, wrong
from workers.resources import Resources
from workers.search.words import ANALYZER_VERSION

#: Beat asks for the sweep each 5 s, and nobody else does.
BEAT_IS_LATE_SECONDS: Final = 30.0
#: A beat that was started just now is waited for.
PATIENCE_SECONDS: Final = 7.0
LOOK_EVERY_SECONDS: Final = 0.25


def check_workers(_: Resources) -> Finding:
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


def check_beat(resources: Resources) -> Finding:
    """Whether the sweep, which only beat asks for, runs."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        with resources.ledger.read() as tx:
            idle = leases.idle_seconds(tx, "sweep")
        if idle is not None and idle < BEAT_IS_LATE_SECONDS:
            return ok("beat", f"it works: the last sweep ended {idle:.0f} s ago")
        if time.monotonic() >= ends:
            break
        time.sleep(LOOK_EVERY_SECONDS)
    found = "no sweep has ever run" if idle is None else f"the last sweep ended {idle:.0f} s ago"
    fix = "Start `retroscribe beat`, once a fleet; if it runs, see the log of `retroscribe worker --role control`."
    return wrong("beat", f"{found}, so nothing is handed out", fix, unreachable=True)


def check_flower(resources: Resources, ask: Ask) -> Finding:
    """Whether the Flower pages, which nothing needs, are there, and shown to no stranger."""
    settings = resources.settings
    host, asks = settings.flower_host, settings.flower_basic_auth is not None
    if not is_loopback_host(host) and not asks:
        fix = "Set RETROSCRIBE_FLOWER_BASIC_AUTH to user:password, or RETROSCRIBE_FLOWER_HOST to 127.0.0.1."
        return warning("flower", f"it refuses to start: {host} is open to others, and there is no password", fix)
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    url = f"http://{here}:{settings.flower_port}"
    try:
        status = ask(f"{url}/workers").status
    except PartUnreachable:
        found = f"no Flower pages at {url}; nothing but your view of tasks needs them"
        if settings.embedded_redis:
            return warning("flower", found, "`retroscribe up` starts them: see its output for why they ended.")
        return ok("flower", found)
    return _flower(url, status, asks=asks)


def _flower(url: str, status: int, *, asks: bool) -> Finding:
    if asks and status == 200:
        fix = "Start it again: it was started without RETROSCRIBE_FLOWER_BASIC_AUTH, or is another deployment's."
        return warning("flower", f"{url} shows its pages without the password", fix)
    if status != (401 if asks else 200):
        fix = "Set RETROSCRIBE_FLOWER_PORT to a port that is free: something else answers there."
        return warning("flower", f"{url} answers HTTP {status}, which Flower would not", fix)
    return ok("flower", f"{url} asks for the password" if asks else f"{url} answers")


def check_search(resources: Resources) -> Finding:
    settings = resources.settings
    path = settings.search_path
    if path is not None and not path.exists():
        with resources.ledger.read() as tx:
            first = transcripts.batch(tx, after_id=0, most=1)
        if not first or first[0][0].state != State.INDEXED:
            return ok("search", f"{path} is not there yet; the first transcript makes it")
        fix = "Search where the workers of role index run, it is there; if it was lost, `retroscribe reindex` there."
        return warning("search", f"{path} is not there, but transcripts have been indexed", fix)
    where = path or f"the index {settings.search_index} at {settings.search_url}"
    if path is None:
        resources.index.check()  # quick, while the embedded one would be read through
    size = f", {path.stat().st_size / 1e6:.1f} MB" if path is not None else ""
    found = f"{where} holds {resources.index.count()} documents{size}, words cut by version {ANALYZER_VERSION}"
    return ok("search", found)
