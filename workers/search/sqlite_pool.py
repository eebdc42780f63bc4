"""The open connections of one file of the embedded index."""

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workers.search.sqlite_file import connect, prepare

_LONGEST_WAL = 128 * 1024 * 1024  # bytes: under nonstop writers SQLite never starts it over by itself


class Pool:
    """Hands out connections to one file, each to one thread at a time; raises sqlite3.Error and OSError.

    A file that is missing is made only with `may_make`: one that another process has just removed stays away.
    """

    def __init__(self, path: Path, *, full_sync: bool, may_make: bool) -> None:
        self._path = path
        self._full_sync = full_sync
        self._may_make = may_make
        self._idle: deque[sqlite3.Connection] = deque()
        self._first = threading.Lock()
        self._prepared = False

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """An idle connection or a new one; after an error it is closed, not kept."""
        self._prepare()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self._path, full_sync=self._full_sync)
        try:
            yield connection
        except BaseException:
            connection.close()  # which rolls back
            raise
        self._idle.append(connection)

    def shorten_wal(self, connection: sqlite3.Connection) -> None:
        """A long log slows every reader; when a reader is in the way, the next write tries again."""
        with suppress(OSError, sqlite3.OperationalError):
            if self._path.with_name(f"{self._path.name}-wal").stat().st_size > _LONGEST_WAL:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Closes the connections that are not in use; a later call opens a new one."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _prepare(self) -> None:
        with self._first:
            if not self._prepared:
                prepare(self._path, may_make=self._may_make)
                self._prepared = True
