"""The file of the embedded index: how it is opened, what tables it has, and which file is refused."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from workers.errors import SearchUnavailable
from workers.search.words import ANALYZER_VERSION

SCHEMA_VERSION = 2
BUSY_SECONDS = 30.0
_CHECKPOINT_PAGES = 4_000

# `words` keeps no text (content=''): `bodies` has it, compressed, in a table of its own so that filtering reads only
# the small rows of `documents`. The words are cut by workers.search.words; the ascii tokenizer then cuts at the spaces
# between them and nowhere else, so that every SQLite, whatever its Unicode tables, indexes what is highlighted.
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE documents (id INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, version INTEGER NOT NULL,
       media_id TEXT NOT NULL, backfill TEXT NOT NULL, languages TEXT NOT NULL, confidence REAL,
       duration REAL, redacted INTEGER)""",
    "CREATE INDEX documents_media_id ON documents (media_id)",
    "CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE VIRTUAL TABLE words USING fts5 (text, content='', tokenize='ascii', detail='full')",
)
_VERSIONS = {"schema": SCHEMA_VERSION, "analyzer": ANALYZER_VERSION}


def connect(path: Path, *, full_sync: bool = False) -> sqlite3.Connection:
    """A connection that may pass from thread to thread; transactions are begun and ended by hand."""
    uri = f"file:{quote(str(path))}?mode=rw"  # what another process has removed is not made again
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous = {'FULL' if full_sync else 'NORMAL'}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    return connection


def prepare(path: Path, *, may_make: bool = True) -> None:
    """Makes folder, file and tables where they are missing; several processes may do so at once.

    Raises SearchUnavailable for a file of another version or one that is no search index; may raise sqlite3.Error and
    OSError, such as FileNotFoundError without `may_make`.
    """
    if may_make:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    elif not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    with closing(connect(path)) as connection:
        if _is_ready(connection, path):
            return
        _use_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        if not _is_ready(connection, path):
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", _VERSIONS.items())
        connection.execute("COMMIT")


def refuse_foreign(path: Path) -> None:
    """Raises SearchUnavailable or sqlite3.Error when there is a file that no version of ours has made."""
    if path.exists():
        with closing(connect(path)) as connection:
            _versions(connection, path)


def _is_ready(connection: sqlite3.Connection, path: Path) -> bool:
    """False for an empty file."""
    found = _versions(connection, path)
    if found and found != _VERSIONS:
        raise SearchUnavailable(
            f"The search index {path} was made by another version of Retroscribe: run `retroscribe reindex`, which "
            "builds a new one from the ledger, while everything else goes on."
        )
    return bool(found)


def _versions(connection: sqlite3.Connection, path: Path) -> dict[str, int]:
    """What the file says it is; empty for an empty file."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return {}
    if not {"meta", "words"} <= tables:
        raise SearchUnavailable(
            f"The file {path} is a database, but no search index: set RETROSCRIBE_SEARCH_URL to another path."
        )
    return dict(connection.execute("SELECT name, value FROM meta"))


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switches the file to WAL; SQLite answers "locked" without waiting when two processes do so at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return
