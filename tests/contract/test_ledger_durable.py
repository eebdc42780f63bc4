"""What was committed to the SQLite ledger is on the disk before its writer goes on, and other writers need not wait."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from workers.errors import LedgerUnavailable
from workers.ledger.engine import Ledger

WRITERS = ["write", "write_many"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{path}")) as opened:
        with opened.write() as tx:
            tx.execute(text("CREATE TABLE notes (note TEXT)"))
        yield opened


def note(ledger: Ledger, writer: str, what: str) -> None:
    with getattr(ledger, writer)() as tx:
        tx.execute(text("INSERT INTO notes VALUES (:what)"), {"what": what})


def notes(path: Path) -> list[str]:
    """What another process sees."""
    with closing(sqlite3.connect(path)) as reader:
        return [what for (what,) in reader.execute("SELECT note FROM notes")]


@pytest.mark.parametrize("writer", WRITERS)
def test_the_log_is_synced_after_the_commit_and_before_the_writer_goes_on(
    ledger: Ledger, path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, list[str]]] = []
    log = Path(f"{path}-wal")
    monkeypatch.setattr(
        os, "fdatasync", lambda descriptor: synced.append((os.path.sameopenfile(descriptor, opened), notes(path)))
    )
    opened = os.open(log, os.O_RDONLY)

    note(ledger, writer, "one")
    assert synced == [(True, ["one"])]
    note(ledger, writer, "two")
    assert synced == [(True, ["one"]), (True, ["one", "two"])]
    os.close(opened)


@pytest.mark.parametrize("writer", WRITERS)
def test_nobody_waits_for_the_disk_of_another_writer(
    ledger: Ledger, path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, waits, goes_on = threading.local(), threading.Event(), threading.Event()

    def fdatasync(_: int) -> None:
        if getattr(slow, "here", False):
            waits.set()
            assert goes_on.wait(30)

    def note_slowly() -> None:
        slow.here = True
        note(ledger, writer, "slow")

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with ThreadPoolExecutor() as pool:
        other = pool.submit(note_slowly)
        assert waits.wait(30)
        note(ledger, writer, "quick")
        assert not other.done()
        goes_on.set()
        other.result(30)
    assert notes(path) == ["slow", "quick"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_does_not_keep_it_is_a_ledger_that_can_not_be_used(
    ledger: Ledger, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fdatasync", broken)
        with pytest.raises(LedgerUnavailable, match=r"disk does not keep what is written \(Input/output error\)"):
            note(ledger, writer, "lost")
    note(ledger, writer, "kept")


def test_a_log_that_was_copied_and_removed_needs_no_sync(path: Path) -> None:
    with closing(Ledger(f"sqlite:///{path}")) as only:
        with only.write() as tx:
            tx.execute(text("CREATE TABLE notes (note TEXT)"))
        with only.write() as tx:
            tx.execute(text("INSERT INTO notes VALUES ('kept')"))
            Path(f"{path}-wal").rename(f"{path}-gone")
        Path(f"{path}-gone").rename(f"{path}-wal")
    assert notes(path) == ["kept"]


def test_opening_it_once_more_takes_no_lock_from_those_who_have_it_open(ledger: Ledger, path: Path) -> None:
    note(ledger, "write", "one")

    with closing(Ledger(f"sqlite:///{path}")):
        # Another process that believes itself the last one would copy the log into the file and remove it.
        look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM notes').fetchall()"
        subprocess.run([sys.executable, "-c", look, path], check=True)
        assert Path(f"{path}-wal").exists()
        note(ledger, "write", "two")

    assert notes(path) == ["one", "two"]
