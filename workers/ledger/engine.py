"""Opens the ledger and gives out its short transactions."""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from workers.errors import LedgerError, LedgerUnavailable
from workers.ledger import postgresql

BUSY_TIMEOUT_SECONDS = 10
# WAL needs shared memory between the processes, which these do not give (sqlite.org/wal.html, "same host computer").
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph", "glusterfs", "lustre"}
)

# Each new row changes a page of its own in several indexes, whose keys are random. SQLite writes pages twice when its
# 2 MB of memory are full, and after each 4 MB of log it copies that log into the file before a commit returns.
_BULK = {"cache_size": -48_000, "wal_autocheckpoint": 0}


class Ledger:
    """The ledger's door: `with ledger.write() as tx` is one short transaction, `read()` a look at one moment.

    Thread-safe. Raises LedgerUnavailable when the database can't be reached, or a lock is not to be had in time, and
    the caller may try again: nothing was written then, unless a server was lost while it committed. Nobody knows that,
    so whoever tries again looks first, as every conditional change does, or does what is safe to repeat.
    """

    def __init__(self, url: str) -> None:
        path = sqlite_path(url)
        self._turn: AbstractContextManager[object] = nullcontext()
        self._log = None if path is None else _Log(path)
        if _parsed(url).get_backend_name() == "sqlite":
            self._engine = self._reader = _sqlite_engine(url)
            self._turn = nullcontext() if path is None else _Turn(path)
            self._bulk = self._engine if path is None else _sqlite_engine(url, pool_size=1, pragmas=_BULK)
        else:
            self._engine = self._bulk = postgresql.server_engine(_parsed(url))
            self._reader = postgresql.reader(self._engine)
        self._writer = self._engine.execution_options(retroscribe_write=True)
        self._bulk_writer = self._bulk.execution_options(retroscribe_write=True)

    @property
    def engine(self) -> Engine:
        return self._engine

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with _translated(), self._durably(), self._turn, self._writer.begin() as tx:
            yield tx

    @contextmanager
    def write_many(self) -> Iterator[Connection]:
        """As `write`, for hundreds of new rows; whoever has written many calls `checkpoint` now and then."""
        with _translated(), self._durably(), self._turn, self._bulk_writer.begin() as tx:
            yield tx

    def checkpoint(self) -> None:
        """Copies what SQLite's log holds into its file, while other writers go on; a server does so by itself."""
        if self._bulk is self._engine:
            return
        with _translated(), closing(self._bulk.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def rewrite(self) -> str | None:
        """Leaves nothing in the database's files of what was deleted; a sentence about what stays, if something does.

        SQLite writes the file anew, for which it needs twice its size in free space; other writers wait meanwhile.
        Raises LedgerUnavailable when that can't be done now. Safe to repeat.
        """
        if self._engine.dialect.name != "sqlite":
            return postgresql.REMAINS
        try:
            with _translated(), self._turn, closing(self._engine.raw_connection()) as connection:
                _rewrite(connection.cursor())
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"The ledger can't be rewritten now ({error}).") from None
        return None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _translated(), self._reader.connect() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()
        self._bulk.dispose()

    @contextmanager
    def _durably(self) -> Iterator[None]:
        """Around a turn: what was committed in it is on the disk when the caller goes on."""
        yield
        if self._log is not None:
            self._log.sync()


class _Turn:
    """Lets the writers of one SQLite file in one by one, over all threads and processes of the machine.

    SQLite has one writer, and who finds it busy sleeps up to 0.1 s before asking again: with five writing processes
    half of all time went by like that. The kernel wakes who waits for a file lock at once, and frees a dead holder's.
    """

    def __init__(self, path: Path) -> None:
        self._threads = threading.Lock()
        self._descriptor = os.open(f"{path}.turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        if not self._threads.acquire(timeout=BUSY_TIMEOUT_SECONDS):
            raise LedgerUnavailable("The ledger can't be used now (its writers wait for each other).")
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._threads.release()


class _Log:
    """Brings what was committed to an SQLite file to the disk: its write-ahead log.

    With synchronous=FULL SQLite does that itself, while all other writers wait. It says NORMAL here: the log is synced
    before it is copied into the file, the file before the log begins anew (sqlite.org/pragma.html#pragma_synchronous),
    and each commit by its own writer, after its turn. The log is written from front to back, so that syncing one
    commit brings all before it to the disk as well, those of other processes included: nothing that anybody has done
    on account of a row that it saw can be older than that row on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = f"{os.path.realpath(path)}-wal"

    def sync(self) -> None:
        """Returns when all that was committed is on the disk; raises LedgerUnavailable when the disk says no."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # whoever closed the file last has copied all of it into the file, and synced that
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            raise LedgerUnavailable(f"The ledger's disk does not keep what is written ({error.strerror}).") from None
        finally:
            os.close(descriptor)


def _rewrite(cursor: Any) -> None:
    cursor.execute("VACUUM")
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= deadline:
            raise sqlite3.OperationalError("a reader holds its log")
        time.sleep(0.1)


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL, None for a server."""
    parsed = _parsed(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def refuse_network_file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> None:
    """Raises LedgerError when the folder lies on a network file system, where SQLite's WAL would lose data."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return  # only Linux tells
    real = os.path.realpath(folder)
    kinds = {fields[1].replace("\\040", " "): fields[2] for fields in map(str.split, lines) if len(fields) > 2}
    holding = max((point for point in kinds if _lies_in(real, point)), key=len, default="/")
    if kinds.get(holding) in NETWORK_FILE_SYSTEMS:
        raise LedgerError(
            f"The home {folder} lies on a network file system ({kinds[holding]}), where SQLite loses data: "
            "set RETROSCRIBE_HOME to a folder on a local disk, or RETROSCRIBE_DATABASE_URL to a PostgreSQL server."
        )


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # it may hold a password, so nothing of it is shown
        raise LedgerError(
            "RETROSCRIBE_DATABASE_URL is no URL of a ledger: give it as postgresql+psycopg://user:password@host/name, "
            "percent-encode what is special in the password, or as sqlite:///path."
        ) from None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError:
        raise LedgerUnavailable("The ledger can't be used now (all connections to it are in use).") from None
    except DBAPIError as error:
        why = _sqlite_trouble(error) if isinstance(error.orig, sqlite3.Error) else postgresql.trouble(error)
        if why is None:
            raise  # a fault of ours, such as a constraint that was not minded
        raise LedgerUnavailable(f"The ledger can't be used now ({why}).") from None


def _sqlite_trouble(error: DBAPIError) -> str | None:
    if type(error) not in (DatabaseError, InterfaceError, OperationalError):
        return None
    said = str(error.orig)
    return postgresql.OTHER_SCHEMA if said.startswith(("no such table", "no such column")) else said


def _sqlite_engine(url: str, *, pool_size: int = 20, pragmas: Mapping[str, int] | None = None) -> Engine:
    path = sqlite_path(url)
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_network_file_system(path.parent)
        # It holds transcripts. SQLite gives its other files the same mode. One that is there is not opened: closing it
        # would take the locks of this process's other connections to it (sqlite.org/howtocorrupt.html, 2.2).
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    engine = create_engine(url, pool_size=pool_size, pool_timeout=30, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, see below
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
        if cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
            cursor.execute("PRAGMA synchronous = NORMAL")  # the rest is _Log's
        cursor.execute("PRAGMA foreign_keys = ON")
        # What is deleted is overwritten: transcripts are personal data.
        cursor.execute("PRAGMA secure_delete = ON")
        for name, value in (pragmas or {}).items():
            cursor.execute(f"PRAGMA {name} = {value}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and then writes fails at once when another has written meanwhile; one that
        # takes the write lock at its beginning waits instead.
        write = connection.get_execution_options().get("retroscribe_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
