"""The whole of it in real processes: `up`, `run`, a worker killed in the middle, `status`, `search`, and the end."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from config import queues
from config.settings import Settings
from tests.conftest import free_port
from tests.support.command import bare_environment, command
from tests.support.eventually import eventually
from tests.support.prometheus import samples
from tests.support.sandbox import NO_TLS, Sandbox
from tests.support.sandbox_calls import GOOD, IDS
from workers.ledger.engine import Ledger
from workers.ledger.tables import recordings
from workers.model import State

#: One of them without a duration and one that does not exist.
ASKED = IDS[30:70]
USABLE = [media_id for media_id in ASKED if media_id in GOOD]
BAD_LINES = ["two words,en-US", ",en-US", f"{IDS[0]},english!"]
RATE = 20


@pytest.fixture
def busy_sandbox() -> Iterator[Sandbox]:
    """Answers late, so that submissions are on their way whenever a worker dies."""
    with Sandbox(rate=RATE, processing_seconds=0.3) as sandbox:
        sandbox.faults(slow_seconds=0.4)
        yield sandbox


class Stack:
    """`retroscribe up` in a home of its own, and other commands beside it."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.sandbox = sandbox
        self.environment = bare_environment(
            RETROSCRIBE_HOME=str(self.home),
            RETROSCRIBE_SUBMIT_LIMIT=str(RATE),
            RETROSCRIBE_MEDIA_LIMIT=str(2 * RATE),
            RETROSCRIBE_STATUS_LIMIT=str(RATE),
            RETROSCRIBE_RECEIVER_PORT=str(free_port()),
            RETROSCRIBE_FLOWER_PORT=str(free_port()),
            RETROSCRIBE_METRICS_PORT=str(free_port()),
            **sandbox.env,
        )
        self._log = folder / "up.log"
        self.up = self.begin("up", log=self._log)
        self.ledger = Ledger(f"sqlite:///{self.home}/ledger.sqlite3")
        self.broker = redis.Redis(unix_socket_path=str(Settings(home=self.home).socket_path))

    def metrics(self) -> dict[str, float]:
        """What the one page for Prometheus has."""
        port = self.environment["RETROSCRIBE_METRICS_PORT"]
        return samples(httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=20, trust_env=False, verify=NO_TLS).text)

    def begin(self, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
        with log.open("wb") as output:
            return subprocess.Popen(
                command(*arguments), cwd=self.folder, env=self.environment, stdout=output, stderr=output
            )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        answer = self.run(*arguments, "--json")
        assert answer.returncode == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def is_ready(self) -> bool:
        assert self.up.poll() is None, self._log.read_text()
        return "Retroscribe is ready" in self._log.read_text()

    def children(self) -> dict[int, str]:
        """The processes below `up`, with their command lines."""
        listed = subprocess.run(
            ["ps", "-e", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        )
        processes = [line.split(None, 2) for line in listed.stdout.splitlines()]
        found: dict[int, str] = {}
        below = {self.up.pid}
        while below:
            new = {int(pid): arguments for pid, parent, arguments in processes if int(parent) in below}
            found |= new
            below = set(new)
        return found

    def worker(self, role: str) -> int | None:
        return next((pid for pid, arguments in self.children().items() if f"worker --role {role}" in arguments), None)

    def kill_while_submitting(self) -> int:
        """Kills the pipeline worker while it waits for answers of the API; gives how many it waited for.

        A POST that has not left yet would end up with a person, so there it is let go on and stopped a little later.
        """
        while True:
            victim = eventually(lambda: self.worker("pipeline"), what="the pipeline worker")
            os.kill(victim, signal.SIGSTOP)
            waiting = self._submitting()
            if waiting and self._accepts(waiting):
                os.kill(victim, signal.SIGKILL)
                return len(waiting)
            os.kill(victim, signal.SIGCONT)

    def queues_are_empty(self) -> bool:
        return not any(self.broker.llen(queue) for queue in queues.ROLES["pipeline"])

    def let_a_minute_pass(self) -> None:
        """For the sweep, which looks for lost messages after that long."""
        out = recordings.c.state.in_([State.QUEUED, State.VALIDATED])
        with self.ledger.write() as tx:
            tx.execute(recordings.update().where(out).values(due_at=recordings.c.due_at - 60))

    def stop(self) -> None:
        self.ledger.close()
        self.broker.close()
        if self.up.poll() is None:
            self.up.terminate()
            self.up.wait(40)

    def _accepts(self, waiting: set[str]) -> bool:
        try:
            return eventually(lambda: waiting <= self.sandbox.stats()["accepted"].keys(), timeout=0.5)
        except AssertionError:
            return False

    def _submitting(self) -> set[str]:
        with self.ledger.read() as tx:
            rows = tx.execute(recordings.select().where(recordings.c.state == State.SUBMITTING))
            return {row.media_id for row in rows}


@pytest.fixture
def stack(tmp_path: Path, busy_sandbox: Sandbox) -> Iterator[Stack]:
    started = Stack(tmp_path, busy_sandbox)
    try:
        eventually(started.is_ready, timeout=90, what="the stack")
        yield started
    finally:
        started.stop()


@pytest.mark.slow
def test_a_backfill_survives_the_death_of_a_worker_and_each_recording_is_paid_for_once(
    stack: Stack, busy_sandbox: Sandbox
) -> None:
    lines = [f"{media_id},en-US" for media_id in [*ASKED, ASKED[0]]]
    stack.folder.joinpath("calls.csv").write_text("\n".join(["media_id,languages", *lines, *BAD_LINES]) + "\n")
    run = stack.begin("run", "calls.csv", log=stack.folder / "run.log")

    eventually(lambda: len(busy_sandbox.stats()["accepted"]) >= 8, timeout=40, what="the first submissions")
    victim = stack.worker("pipeline")
    assert stack.kill_while_submitting() > 0
    eventually(lambda: stack.worker("pipeline") not in (None, victim), what="another worker in its place")
    eventually(stack.queues_are_empty, timeout=40, what="the end of the messages that were not lost")
    stack.let_a_minute_pass()
    code = run.wait(60)

    assert code == 0, stack.folder.joinpath("run.log").read_text()
    assert busy_sandbox.stats()["accepted"] == dict.fromkeys(USABLE, 1)
    status = stack.json("status", "calls")
    assert (status["requested"], status["duplicates"], status["intake_rejects"]) == (len(lines) + len(BAD_LINES), 1, 3)
    assert {state: number for state, number in status["states"].items() if number} == {"indexed": 38, "rejected": 2}
    assert status["rejected_reasons"] == {"duration_missing": 1, "media_not_found": 1}
    assert status["requested"] == status["total"] + status["duplicates"] + status["intake_rejects"]
    assert len(stack.folder.joinpath("calls.rejected.csv").read_text().splitlines()) == 1 + len(BAD_LINES)
    hits = stack.json("search", "--backfill", "calls", "--size", "100")["hits"]
    assert sorted(hit["media_id"] for hit in hits) == sorted(USABLE)
    assert stack.json("search", "the", "--media-id", USABLE[0])["total"] == 1
    records = [json.loads(line) for line in (stack.home / "audit.jsonl").read_text().splitlines()]
    assert sorted(record["mediaId"] for record in records) == sorted(ASKED)

    page = stack.metrics()
    assert page['retroscribe_receiver_events_total{verdict="accepted"}'] > 0
    assert {page[f'retroscribe_source_up{{source="{one}"}}'] for one in ("ledger", "redis", "broker")} == {1}
    assert page['retroscribe_api_calls_total{class="submit",status="202"}'] > 0

    second = stack.run("up")
    assert second.returncode == 4
    assert f"runs already in {stack.home} (process {stack.up.pid})" in second.stderr

    below = stack.children()
    stack.up.terminate()
    assert stack.up.wait(30) == 0
    assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.slow
def test_the_doctor_finds_nothing_wrong_with_a_stack_that_runs(stack: Stack) -> None:
    checks = stack.json("doctor")["checks"]

    assert {check["name"]: check["found"] for check in checks if check["state"] != "ok"} == {}
