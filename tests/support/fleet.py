"""Every part of Retroscribe in a process of its own, over a real broker, ledger and sandbox, to be killed at will."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import httpx
from sqlalchemy import func, select

from config import queues
from config.genesys import GenesysSettings
from config.settings import Settings
from tests.conftest import free_port
from tests.support.broker import Broker
from tests.support.command import SETTINGS, bare_environment, run_command
from tests.support.eventually import eventually
from tests.support.postgres import Postgres
from tests.support.sandbox import NO_TLS, Sandbox
from workers.ledger import backfills, recordings, tables
from workers.ledger.funnel import Funnel, funnel
from workers.ledger.migrate import migrate
from workers.ledger.states import NEEDS_PERSON, TERMINAL
from workers.model import Bounds, Lane, State
from workers.pipeline.enqueue import enqueue
from workers.resources import Resources
from workers.sandbox.catalogue import Catalogue
from workers.search.query import MAX_SIZE, Query

PARTS: Final = ("pipeline", "index", "control", "beat", "receiver")
#: Nothing more is done with a recording in one of these, unless a person wants it.
ENDS: Final = TERMINAL | NEEDS_PERSON
#: How what was paid for may end: with a person, when nothing proved that it was accepted.
PAID_FOR: Final = frozenset({State.INDEXED, State.PARKED})
RATE: Final = 100
#: How many recordings the sandbox of a fleet should have: each test asks for new ones.
CATALOGUE: Final = 5000

#: What they say when they work; those that say nothing are not waited for.
READY: Final = {"up": "Retroscribe is ready", **dict.fromkeys(queues.ROLES, " ready.")}

#: What production waits a minute for. What comes first is imported by what comes after.
QUICK: Final[Mapping[str, object]] = {
    "config.celery_settings:PUMP_INTERVAL_SECONDS": 0.25,
    "config.celery_settings:SWEEP_INTERVAL_SECONDS": 0.5,
    # Celery looks again for a lost broker after 2, 4, 6 ... 30 s; only the first, third to fifth of these differ.
    "kombu.connection:Connection._ensure_connection.__defaults__": (None, None, 0.2, 0.2, 1, None, True, None),
    "workers.pipeline.api:PROBE_EVERY_SECONDS": 2.0,
    "workers.pipeline.postpone:OUT_SECONDS": 2.0,
    "workers.pipeline.postpone:HALT_CHECK_SECONDS": 2.0,
    "workers.pipeline.applying:UNINDEXED_SECONDS": 2.0,
    "workers.pipeline.pump:LEASE_SECONDS": 2.0,
    "workers.pipeline.sweep:LEASE_SECONDS": 2.0,
    "workers.pipeline.sweep:EVENT_IS_LATE_SECONDS": 1.0,
    "workers.pipeline.sweep:POLL_ASKED_SECONDS": 2.0,
}


class Fleet:
    """Parts by name, all started: a worker's role, `beat` or `receiver`; "index.2" is a second one of its kind.

    `settings` are fields of Settings, given to all parts as an operator would; `unchecked` ones go past their checks.
    `servers` are what the parts need beside the broker, which is "valkey": `kill` and `start` know them by name too.
    """

    def __init__(
        self,
        folder: Path,
        sandbox: Sandbox,
        broker: Broker,
        *,
        parts: Sequence[str] = PARTS,
        database_url: str | None = None,
        servers: Mapping[str, Postgres] | None = None,
        unchecked: Mapping[str, object] | None = None,
        **settings: object,
    ) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.broker = broker
        self.servers: dict[str, Broker | Postgres] = {"valkey": broker, **(servers or {})}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._began: dict[str, int] = {}
        self._requested: Counter[str] = Counter()
        self._media_ids = Catalogue(1, CATALOGUE).media_ids()
        home = folder / "home"
        wanted: dict[str, Any] = {
            "home": home,
            "redis_url": broker.url,
            "database_url": database_url or f"sqlite:///{home}/ledger.sqlite3",
            "receiver_port": free_port(),
            "metrics_port": 0,
            "webhook_secrets": "a secret for all machines",
            "submit_limit": RATE,
            "media_limit": 2 * RATE,
            "status_limit": RATE,
            "poll_after_seconds": 4,
            "unknown_after_seconds": 5,
            **settings,
        }
        client = {name.removeprefix("GENESYS_").lower(): value for name, value in sandbox.env.items()}
        self.resources = Resources(Settings(genesys=GenesysSettings(**client), **wanted))
        migrate(self.resources.ledger)
        self._environment = bare_environment(
            PART_SETTINGS=json.dumps(unchecked or {}),
            **{f"RETROSCRIBE_{name.upper()}": str(value) for name, value in wanted.items() if value is not None},
            **sandbox.env,
        )
        receiver = f"http://127.0.0.1:{wanted['receiver_port']}"
        self._http = httpx.Client(base_url=receiver, verify=NO_TLS, trust_env=False)
        self.start(*parts)

    def start(
        self,
        *names: str,
        constants: Mapping[str, object] | None = None,
        dies_at: Mapping[str, str] | None = None,
    ) -> None:
        """Starts these and returns once they work; `constants` on top of QUICK are for these processes only.

        Those in `dies_at` kill themselves at that point of `tests.support.death`, for others to take over.
        """
        constants = {**(constants or {}), **QUICK}
        for name in names:
            death = (dies_at or {}).get(name, "")
            environment = self._environment | {"PART_CONSTANTS": json.dumps(constants), "PART_DIES_AT": death}
            if name in self.servers:
                self.servers[name].start()
                continue
            with (self.folder / f"{name}.log").open("ab") as output:
                self._began[name] = output.tell()
                command = [sys.executable, "-m", "tests.support.part", *_arguments(name)]
                self.processes[name] = subprocess.Popen(
                    command, cwd=self.folder, env=environment, stdout=output, stderr=output
                )
        for name in names:
            eventually(lambda name=name: self._works(name), timeout=60, what=f"the start of {name}")

    def pids(self) -> dict[str, int]:
        """The parts that run."""
        return {name: process.pid for name, process in self.processes.items() if process.poll() is None}

    def signal(self, number: signal.Signals, *names: str) -> None:
        for name in names:
            self.processes[name].send_signal(number)

    def ends(self, *names: str) -> dict[str, int]:
        """Waits for these to end, for as long as an orchestrator does after its SIGTERM; gives their exit codes."""
        return {name: self.processes[name].wait(30) for name in names}

    def kill(self, *names: str) -> None:
        """Ends parts and servers as a crash does."""
        for name in names:
            if name in self.servers:
                self.servers[name].kill()
            else:
                self.processes[name].kill()
                self.processes[name].wait()

    def heal(self) -> None:
        """Starts what does not run, and switches off the sandbox's faults."""
        self.broker.thaw()
        self.sandbox.faults()
        self.start(*self.servers, *(name for name in PARTS if name not in self.pids()))

    def close(self) -> None:
        """Ends everything but the servers."""
        self.kill(*self.pids())
        self._http.close()
        self.resources.close()

    def said(self, name: str) -> str:
        """What the part has logged since it was started last."""
        return (self.folder / f"{name}.log").read_bytes()[self._began[name] :].decode()

    def run(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Runs the command as an operator of this machine does."""
        settings = {name: value for name, value in self._environment.items() if name.startswith(SETTINGS)}
        return run_command(*arguments, folder=self.folder, stdin=stdin, **settings)

    def ask(
        self,
        backfill: str,
        number: int,
        *,
        lane: Lane = Lane.BACKFILL,
        extra: Iterable[str] = (),
        bounds: Bounds = backfills.UNBOUNDED,
    ) -> list[str]:
        """Has so many recordings that nobody asked for before taken in, and `extra` ones; gives their media ids."""
        media_ids = [*islice(self._media_ids, number), *extra]
        entries = [{"media_id": media_id} for media_id in media_ids]
        with self.resources.ledger.write() as tx:
            backfills.ensure(tx, backfill, {}, bounds)
        enqueue(self.resources, {"backfill": backfill, "lane": str(lane), "recordings": entries}, by="a test")
        self._requested[backfill] += len(entries)
        return media_ids

    def requested(self, backfill: str) -> int:
        """How many entries were asked for under this name."""
        return self._requested[backfill]

    def funnel(self, backfill: str) -> Funnel:
        with self.resources.ledger.read() as tx:
            found = backfills.by_name(tx, backfill)
            assert found is not None
            return funnel(tx, found.id)

    def states(self, backfill: str) -> Counter[State]:
        return Counter({State(state): number for state, number in self.funnel(backfill).states.items()})

    def ended(self, backfill: str) -> int:
        """With how many recordings nothing more is to be done."""
        return sum(number for state, number in self.states(backfill).items() if state in ENDS)

    def finish(self, backfill: str, timeout: float = 60) -> Counter[State]:
        """Waits until nothing more is to be done; gives how many recordings came to which end."""
        try:
            eventually(lambda: self.ended(backfill) == self.funnel(backfill).total, timeout, f"the end of {backfill}")
        except AssertionError as error:
            error.add_note(self._what_holds_up(backfill))
            raise
        return self.states(backfill)

    def let_it_be_due(self, backfill: str) -> None:
        """Has the moment come for which its recordings wait."""
        columns = tables.recordings.c
        of_backfill = select(tables.backfills.c.id).where(tables.backfills.c.name == backfill).scalar_subquery()
        those = (columns.backfill_id == of_backfill) & columns.due_at.is_not(None)
        with self.resources.ledger.write() as tx:
            tx.execute(tables.recordings.update().where(those).values(due_at=0))

    def times_in(self, state: State, backfill: str) -> int:
        """How often a recording came into this state."""
        rows = tables.transitions.join(tables.recordings).join(tables.backfills)
        those = (tables.backfills.c.name == backfill) & (tables.transitions.c.to_state == state)
        with self.resources.ledger.read() as tx:
            return int(tx.execute(select(func.count()).select_from(rows).where(those)).scalar_one())

    def receiver_is_ready(self) -> bool:
        try:
            return self._http.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def _what_holds_up(self, backfill: str) -> str:
        """Which recordings have not ended, what waits in the broker, and how each part stands, to be read by people."""
        with self.resources.ledger.read() as tx:
            named = tables.backfills.c.name == backfill
            waiting = recordings.query().where(named & tables.recordings.c.state.not_in(ENDS)).limit(5)
            rows = [recordings.from_row(row) for row in tx.execute(waiting).mappings()]
            histories = [[dict(step) for step in recordings.history(tx, row.id)] for row in rows]
        with self.broker.client() as client:
            lengths = {name: client.llen(name) for name in queues.ALL}
        said = [f"{name}, exit {part.poll()}:\n{self.said(name)[-1500:]}" for name, part in self.processes.items()]
        return "\n".join([f"at {time.time()}", f"{lengths}", *map(str, zip(rows, histories, strict=True)), *said])

    def _works(self, name: str) -> bool:
        if name in self.servers:
            return True
        assert self.processes[name].poll() is None, self.said(name)[-3000:]
        if name == "receiver":
            return self.receiver_is_ready()
        return READY.get(name.partition(".")[0], "") in self.said(name)


def assert_nothing_lost_nothing_twice(fleet: Fleet, backfill: str, *, paid_for: frozenset[State] = PAID_FOR) -> None:
    """Of a finished backfill: each entry has its end, none was paid for twice, and what was paid for is there.

    What the sandbox accepted came to an end in `paid_for`: indexed, in one document, or a person was asked about it.
    """
    funnel = fleet.funnel(backfill)
    assert {State(state) for state in funnel.states} <= ENDS, funnel
    assert fleet.requested(backfill) == funnel.total + funnel.duplicates + funnel.intake_rejects, funnel
    columns, of_backfill = tables.recordings.c, tables.backfills.c.name == backfill
    with fleet.resources.ledger.read() as tx:
        query = select(columns.media_id, columns.ref, columns.state).join(tables.backfills).where(of_backfill)
        rows = tx.execute(query).all()
    accepted = Counter(fleet.sandbox.stats()["accepted"])
    assert {row.media_id: accepted[row.media_id] for row in rows if accepted[row.media_id] > 1} == {}
    lost = {row.media_id: row.state for row in rows if accepted[row.media_id] and row.state not in paid_for}
    assert lost == {}
    indexed = [(row.media_id, row.ref) for row in rows if row.state == State.INDEXED]
    assert [one for one in indexed if not accepted[one[0]]] == []
    assert sorted(_documents(fleet.resources, backfill, len(indexed))) == sorted(indexed)


def _documents(resources: Resources, backfill: str, number: int) -> list[tuple[str, str]]:
    """Media id and ref of all documents of the backfill; of `number` and a page more, to be exact."""
    pages = [Query(backfill=backfill, size=MAX_SIZE, offset=offset) for offset in range(0, number + 1, MAX_SIZE)]
    return [(hit.media_id, hit.ref) for page in pages for hit in resources.index.search(page).hits]


def _arguments(name: str) -> list[str]:
    kind = name.partition(".")[0]
    return ["worker", "--role", kind] if kind in queues.ROLES else [kind]
