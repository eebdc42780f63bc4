"""Gets what deleted documents have left out of the embedded index's file."""

import sqlite3
import time

from workers.search.sqlite_file import BUSY_SECONDS

#: Pages of the full-text index that are merged in one transaction: writers wait no longer for it than for another.
_PAGES = 500


def purge(connection: sqlite3.Connection) -> None:
    """Leaves no word of a document that was deleted before in the file or its log.

    FTS5 without content only notes a deletion beside the words, until it merges both; SQLite leaves what was in a page
    before it was written anew, in gaps and free pages, and in the log. Raises sqlite3.OperationalError when a reader
    does not get out of the way in 30 s; safe to repeat.
    """
    connection.execute("PRAGMA secure_delete = ON")
    _merge(connection)
    connection.execute("VACUUM")
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= deadline:
            raise sqlite3.OperationalError("its log is in use")
        time.sleep(0.1)


def _merge(connection: sqlite3.Connection) -> None:
    """Makes one of all that the full-text index consists of now, which `optimize` does in one long transaction."""
    pages = -_PAGES  # negative: all of it, however little there is to gain
    while True:
        before = connection.total_changes
        connection.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (pages,))
        # As SQLite's manual says: it is done when this changed fewer than two rows.
        if pages > 0 and connection.total_changes - before < 2:
            return
        pages = _PAGES
