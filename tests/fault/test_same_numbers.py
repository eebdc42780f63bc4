"""Of two hosts one is killed and one deployed anew in the middle of a run: whoever is asked tells the same numbers."""

import ast
import json
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import Row, select

from config import queues
from tests.conftest import free_port
from tests.support.broker import Broker
from tests.support.eventually import T, eventually
from tests.support.fleet import CATALOGUE, PAID_FOR, RATE, Fleet, assert_nothing_lost_nothing_twice
from tests.support.flower import USER, Flower, flower_at
from tests.support.hosts import Hosts, submitted_by
from tests.support.opensearch import stand_in
from tests.support.postgres import Postgres
from tests.support.prometheus import samples
from tests.support.sandbox import NO_TLS, Sandbox
from workers.ledger import tables
from workers.model import CallClass, State

NAME: Final = "numbers"
#: Not media ids, and how many are asked for once more: neither is a recording.
UNUSABLE: Final = ("", "a b")
AGAIN: Final = 7
NUMBER: Final = 1000
WORKERS: Final = ("pipeline", "index")
#: Some are refused, and an answer takes so long that calls are under way at any moment.
FAULTS: Final = {"submit_status": {"400": 0.01}, "slow_seconds": 0.4}
#: Of some the transcription never ends, so that a person is asked about them.
NEVER_FINISH: Final = 0.01

#: What the sandbox calls the number of calls of each class.
CALLS: Final = {CallClass.SUBMIT: "submits", CallClass.MEDIA: "media_lookups", CallClass.STATUS: "status_lookups"}
#: What a host has in its hands: it dies without a word about it.
IN_HANDS: Final = sum(queues.THREADS[role] for role in WORKERS)
#: A worker's events wait for each other for a moment, at most until there are 24.
UNSENT_EVENTS: Final = 23 * len(WORKERS)
AUDIT_STATUS: Final = {State.INDEXED: "completed", State.REJECTED: "rejected", State.FAILED: "failed"}
#: Production asks each 5 s.
QUICK: Final = {"workers.exporter.source:KEPT_SECONDS": 0.2, "workers.exporter.source:ONE_IN": 1}

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Site:
    """Two hosts work, one has the parts that there are once, one looks on; the index is in a search engine."""

    services: Fleet
    monitoring: Fleet
    first: Fleet
    second: Fleet
    flower: Flower

    def metrics(self) -> dict[str, float]:
        """What Prometheus would get from the exporter now."""
        address = f"http://127.0.0.1:{self.monitoring.resources.settings.metrics_port}/metrics"
        try:
            return samples(httpx.get(address, timeout=20, trust_env=False, verify=NO_TLS).text)
        except httpx.HTTPError:
            return {}

    def calls(self) -> dict[CallClass, int]:
        """How many the API has seen."""
        totals = self.services.sandbox.totals()
        return {one: totals[name] for one, name in CALLS.items()}

    def counted_calls(self) -> dict[CallClass, int]:
        """How many of them the hosts have told Redis of, from which the exporter has them."""
        counted = self.services.resources.calls.read()
        return {one: sum(counted[one].by_status.values()) - counted[one].by_status.get("not_sent", 0) for one in CALLS}

    def missing_in_metrics(self) -> dict[CallClass, int]:
        """How many of them the exporter does not show."""
        shown = {name: value for name, value in self.metrics().items() if 'status="not_sent"' not in name}
        start = 'retroscribe_api_calls_total{class="'
        numbers = {one: [shown[name] for name in shown if name.startswith(f'{start}{one}"')] for one in CALLS}
        return {one: number - int(sum(numbers[one])) for one, number in self.calls().items()}

    def recordings(self) -> list[Row[Any]]:
        columns = tables.recordings.c
        query = select(columns.media_id, columns.ref, columns.state, columns.reason)
        with self.services.resources.ledger.read() as tx:
            return list(tx.execute(query).all())


@pytest.fixture
def site(tmp_path: Path, postgres: Postgres) -> Iterator[Site]:
    broker, url = Broker(tmp_path).start(), postgres.empty_ledger()
    ports = {"flower_port": free_port(), "metrics_port": free_port()}
    with (
        Sandbox(
            rate=RATE, processing_seconds=0.2, count=CATALOGUE, never_finish=NEVER_FINISH, faults=FAULTS
        ) as sandbox,
        stand_in() as search,
        closing(Hosts(tmp_path, broker, sandbox, url, search_url=search.url, deadline_hours=10 / 3600)) as hosts,
    ):
        monitoring = hosts.add("monitoring", ("flower",), flower_basic_auth=":".join(USER), **ports)
        monitoring.start("exporter", constants=QUICK)
        with flower_at(ports["flower_port"]) as flower:  # it knows what it has heard, so it is there before the workers
            services = hosts.add("services", ("control", "beat", "receiver"))
            yield Site(services, monitoring, hosts.add("first", WORKERS), hosts.add("second", WORKERS), flower)
    broker.close()


def comes_to(tell: Callable[[], T], wanted: T, what: str) -> None:
    """Waits until it tells exactly that; what tells of a run later than the ledger has that time to catch up."""
    with suppress(AssertionError):
        eventually(lambda: tell() == wanted, 30)
    assert tell() == wanted, what


def test_a_killed_and_a_deployed_host_lose_nothing_do_nothing_twice_and_all_tell_the_same_numbers(site: Site) -> None:
    services, first, second = site.services, site.first, site.second
    media_ids = services.ask(NAME, NUMBER, extra=UNUSABLE)
    services.ask(NAME, 0, extra=media_ids[:AGAIN])
    eventually(lambda: services.ended(NAME) > NUMBER // 4, 180, "the first quarter")
    assert submitted_by(first) > 0
    assert submitted_by(second) > 0

    counted = site.counted_calls()
    second.kill(*second.pids())  # and it stays away
    at_most = {one: number - counted[one] + IN_HANDS for one, number in site.calls().items()}
    first.signal(signal.SIGTERM, *WORKERS)
    assert first.ends(*WORKERS) == dict.fromkeys(WORKERS, 0)
    told, counted = site.calls(), site.counted_calls()  # nobody calls now
    uncounted = {one: number - counted[one] for one, number in told.items()}
    assert first.run("migrate").returncode == 0
    assert services.ended(NAME) < NUMBER * 3 // 4
    first.start(*WORKERS)
    states = services.finish(NAME, timeout=400)

    assert_nothing_lost_nothing_twice(services, NAME, paid_for=PAID_FOR | {State.FAILED})
    assert states.keys() == {State.INDEXED, State.REJECTED, State.FAILED, State.PARKED}
    assert_status_tells(site, states)
    assert_metrics_tell(site, states)
    # Of calls, what the killed host had not told is missing, and nothing else: not what the deployed one had not.
    assert [one for one in CALLS if not 0 <= uncounted[one] <= at_most[one]] == []
    comes_to(site.missing_in_metrics, uncounted, "the calls that the metrics lack")
    assert_audit_log_tells(site)
    assert_flower_tells(site)


def assert_status_tells(site: Site, states: Counter[State]) -> None:
    found = json.loads(site.first.run("status", NAME, "--json").stdout)
    recordings, accepted = site.recordings(), site.services.sandbox.stats()["accepted"]
    assert {state: number for state, number in found["states"].items() if number} == states
    counts = ("requested", "total", "duplicates", "intake_rejects", "accepted_twice", "active")
    entries = NUMBER + len(UNUSABLE) + AGAIN
    assert [found[name] for name in counts] == [entries, NUMBER, AGAIN, len(UNUSABLE), 0, 0]
    for state in (State.REJECTED, State.FAILED, State.PARKED):
        assert found[f"{state}_reasons"] == Counter(one.reason for one in recordings if one.state == state)
    # What the killed host had sent and heard nothing of: accepted or not, that is what a person is asked.
    unproved = [one for one in recordings if one.reason == "outcome_unknown" and one.media_id in accepted]
    assert found["accepted"] == len(accepted) - len(unproved)
    assert len(unproved) <= queues.THREADS["pipeline"]


def assert_metrics_tell(site: Site, states: Counter[State]) -> None:
    """A backfill is shown as long as one of its recordings is open, and parked ones are."""

    def shown() -> dict[str, float]:
        found = {
            state: site.metrics().get(f'retroscribe_recordings{{backfill="{NAME}",state="{state}"}}') for state in State
        }
        return {str(state): number for state, number in found.items() if number}

    comes_to(shown, {str(state): float(number) for state, number in states.items()}, "recordings in the metrics")
    found = site.metrics()
    assert found['retroscribe_open_recordings{state="parked"}'] == states[State.PARKED]
    assert found["retroscribe_accepted_twice"] == 0


def assert_audit_log_tells(site: Site) -> None:
    """Each that came to its end has its line, on whichever host that was."""
    lines: dict[str, list[tuple[str, str]]] = {}
    for host in (site.services, site.first, site.second):
        path = host.folder / "home" / "audit.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        lines[host.folder.name] = [(one["ref"], one["status"]) for one in records]
    ended = {(one.ref, AUDIT_STATUS[one.state]) for one in site.recordings() if one.state in AUDIT_STATUS}
    living = lines["services"] + lines["first"]

    assert len(lines["second"]) > 0
    assert {*living, *lines["second"]} == ended
    # Twice, if at all, where the killed one had written a line and died before the ledger knew: once there, once here.
    assert [line for line, times in Counter(living).items() if times > 1] == []
    assert [line for line, times in Counter(lines["second"]).items() if times > 1] == []


def assert_flower_tells(site: Site) -> None:
    """Each end that a task brought about is a task's result there, but what the killed host had no time to tell."""
    ended: defaultdict[str, set[str]] = defaultdict(set)
    for one in site.recordings():
        ended[one.state].add(one.media_id)
    killed = tuple(f"{role}.{site.second.processes[role].pid}@" for role in WORKERS)

    def tell() -> dict[str, Any]:
        tasks = site.flower.find("", most=20_000)
        seen = results(tasks)
        unended = [task["worker"] for task in tasks if task["state"] != "SUCCESS"]
        return {
            "lacking": {media_id for state in AUDIT_STATUS for media_id in ended[state] - seen[state]},
            "beyond": {media_id for state in AUDIT_STATUS for media_id in seen[state] - ended[state]},
            "without an end": [worker for worker in unended if not worker.startswith(killed)],
        }

    def is_all() -> bool:
        found = tell()
        return not found["beyond"] and not found["without an end"] and len(found["lacking"]) <= IN_HANDS + UNSENT_EVENTS

    with suppress(AssertionError):
        eventually(is_all, 30)
    assert is_all(), tell()


def results(tasks: Sequence[Mapping[str, Any]]) -> defaultdict[str, set[str]]:
    """By state, the media ids of the tasks that told that it was the state of their recording."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for task in tasks:
        state = re.match(r"'state=(\w+)", task["result"] or "")
        if state and task["kwargs"]:
            found[state[1]].add(ast.literal_eval(task["kwargs"])["media_id"])
    return found
