"""An acceptance that the ledger can't take: it survives in the spool and is recorded as soon as that is possible."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.desk import BY, Desk
from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from workers.errors import RateLimited
from workers.ledger import submissions
from workers.ledger.engine import sqlite_path
from workers.model import Recording, State
from workers.pipeline import acceptance
from workers.pipeline.submit import submit
from workers.pipeline.sweep import sweep

PAST = 1.0


def swept(desk: Desk, recording: Recording) -> Recording:
    """After the moment of the sweep has come for it."""
    desk.set(recording, due_at=PAST)
    sweep(desk.resources, by=BY)
    return desk.now(recording)


@pytest.fixture
def locked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Holds the ledger's write lock from the moment at which the API accepted."""
    monkeypatch.setattr("workers.ledger.engine.BUSY_TIMEOUT_SECONDS", 0.2)
    path = sqlite_path(desk.resources.settings.effective_database_url)
    assert path is not None
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    client, lock = desk.resources.client, lambda: connection.execute("BEGIN IMMEDIATE")
    real = client.submit

    def submit_then_lock(*args: Any, **options: Any) -> object:
        try:
            return real(*args, **options)
        finally:
            lock()

    monkeypatch.setattr(client, "submit", submit_then_lock)
    yield connection
    connection.close()


def test_an_acceptance_is_in_the_spool_from_the_first_failure_on_and_gone_once_recorded(
    desk: Desk, locked: sqlite3.Connection
) -> None:
    ready = desk.validated(GOOD[0])
    worker = threading.Thread(target=submit, args=(desk.resources, ready.id, ready.epoch), kwargs={"by": BY})
    worker.start()
    (path,) = eventually(lambda: spooled(desk), what="the spool file", timeout=30)
    assert json.loads(path.read_text())["transcription_id"]
    assert path.stat().st_mode & 0o077 == 0

    locked.execute("ROLLBACK")
    worker.join()

    assert desk.state(ready) == State.TRANSCRIBING
    assert spooled(desk) == []


def test_a_worker_that_is_stopped_leaves_it_to_the_sweep_which_takes_it_before_the_lease_is_judged(
    desk: Desk, locked: sqlite3.Connection
) -> None:
    ready = desk.validated(GOOD[0])
    worker = threading.Thread(target=submit, args=(desk.resources, ready.id, ready.epoch), kwargs={"by": BY})
    worker.start()
    eventually(lambda: spooled(desk), what="the spool file", timeout=30)
    desk.resources.stopping.set()
    worker.join()
    assert len(spooled(desk)) == 1
    locked.execute("ROLLBACK")

    found = swept(desk, ready)

    assert (found.state, found.transcription_id is not None) == (State.TRANSCRIBING, True)
    assert spooled(desk) == []
    assert desk.way(ready) == [State.QUEUED, State.VALIDATED, State.SUBMITTING, State.TRANSCRIBING]


def test_a_file_that_is_not_what_was_written_is_set_aside(desk: Desk) -> None:
    folder = desk.resources.settings.home / "spool"
    folder.mkdir()
    for name, text in (("a", "{"), ("b", '{"callback_ref": "x"}'), ("c", json.dumps(["x"]))):
        (folder / f"{name}.json").write_text(text)
    unmatched = {"callback_ref": "e" * 32, "transcription_id": "t"}
    (folder / "d.json").write_text(json.dumps(unmatched))

    assert acceptance.take_spooled(desk.resources, by=BY) == 0

    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.unusable" for name in "abcd"]


def test_news_of_not_accepted_waits_for_the_ledger_too(
    desk: Desk, sandbox: Sandbox, locked: sqlite3.Connection
) -> None:
    ready = desk.validated(GOOD[0])
    sandbox.faults(submit_status=429)
    release = threading.Timer(0.7, locked.execute, ["ROLLBACK"])  # after the first try at the latest
    release.start()

    with pytest.raises(RateLimited):
        submit(desk.resources, ready.id, ready.epoch, by=BY)

    release.join()
    assert desk.submissions(ready)[0].outcome == submissions.NOT_SENT
    assert desk.state(ready) == State.VALIDATED


def spooled(desk: Desk) -> list[Path]:
    return list((desk.resources.settings.home / "spool").glob("*.json"))
