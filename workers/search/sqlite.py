"""The embedded search index: one SQLite FTS5 file on a local disk, written by several processes at once."""

import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from workers.errors import SearchUnavailable
from workers.search.documents import Document
from workers.search.excerpt import excerpt
from workers.search.query import Query
from workers.search.results import Hit, Results
from workers.search.sqlite_file import connect, prepare
from workers.search.sqlite_query import find
from workers.search.sqlite_write import Row, document_of, row_of, write

_LONGEST_WAL = 128 * 1024 * 1024  # bytes: under nonstop writers SQLite never starts it over by itself


class SqliteIndex:
    """The documents of one file; safe to use from any thread and from several processes.

    Every method raises SearchUnavailable when the file is locked for longer than 30 s, is damaged, or its disk full.
    What a write has returned from outlives the process, with `full_sync` a power cut as well. `fresh` empties the
    file first, whichever version made it: how rebuilding from the ledger begins.
    """

    def __init__(self, path: Path, *, full_sync: bool = False, fresh: bool = False) -> None:
        self._path = path
        self._full_sync = full_sync
        self._idle: deque[sqlite3.Connection] = deque()
        with self._explained():
            prepare(path, fresh=fresh)

    def upsert(self, documents: Sequence[Document]) -> None:
        """Stores the documents by ref, all or none, in one transaction; safe to repeat.

        An older version than the stored one changes nothing, nor does the same document indexed again; the same
        version with another content replaces it. 100 documents a call go twice as fast as 100 calls.
        """
        newest: dict[str, Document] = {}
        for document in documents:
            if document.ref not in newest or newest[document.ref].version <= document.version:
                newest[document.ref] = document
        self._write({ref: row_of(document) for ref, document in newest.items()})

    def delete(self, ref: str) -> None:
        """Removes a document; safe to repeat. Its version is forgotten too: any later `upsert` brings it back."""
        self._write({ref: None})

    def search(self, query: Query) -> Results:
        """One page of what the query finds, from one consistent state of the file."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            page = find(connection, query)
            bodies = [
                connection.execute("SELECT body FROM bodies WHERE id = ?", (id_,)).fetchone()[0]
                for id_, _ in page.ranked
            ]
            connection.execute("COMMIT")
        hits = (_hit(document_of(body), query, score) for body, (_, score) in zip(bodies, page.ranked, strict=True))
        return Results(page.total, page.total_is_exact, page.ranked_all, tuple(hits))

    def get(self, media_id: str) -> Document | None:
        """The document of a media id, the newest if it was transcribed in several ways."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT body FROM documents JOIN bodies USING (id) WHERE media_id = ? ORDER BY id DESC LIMIT 1",
                (media_id,),
            ).fetchone()
        return document_of(row[0]) if row else None

    def count(self) -> int:
        """How many documents there are."""
        with self._connection() as connection:
            (number,) = connection.execute("SELECT count(*) FROM documents").fetchone()
        return int(number)

    def versions(self, after_ref: str | None, most: int) -> list[tuple[str, int]]:
        """Ref and version of the next documents in the order of their refs."""
        with self._connection() as connection:
            return connection.execute(
                "SELECT ref, version FROM documents WHERE ref > ? ORDER BY ref LIMIT ?", (after_ref or "", most)
            ).fetchall()

    def check(self) -> None:
        """Reads the whole file, which takes minutes when it is large; raises SearchUnavailable when it is damaged."""
        with self._connection() as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)
            connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")

    def close(self) -> None:
        """Closes the connections that are not in use; a later call opens a new one."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _write(self, wanted: Mapping[str, Row | None]) -> None:
        with self._connection() as connection:
            write(connection, wanted)
            self._shorten_wal(connection)

    def _shorten_wal(self, connection: sqlite3.Connection) -> None:
        """A long log slows every reader; when a reader is in the way, the next write tries again."""
        with suppress(OSError, sqlite3.OperationalError):
            if self._path.with_name(f"{self._path.name}-wal").stat().st_size > _LONGEST_WAL:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread alone, an idle one or a new one; after an error it is closed, not kept."""
        with self._explained():
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

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SearchUnavailable(
                f"The search index {self._path} can't be used ({error}): see that its disk is there and has space; "
                "if the file is damaged, stop Retroscribe, delete it and run `retroscribe reindex`."
            ) from error


def _hit(document: Document, query: Query, score: float) -> Hit:
    shown = excerpt(document, query.wanted)
    return Hit(
        ref=document.ref,
        media_id=document.media_id,
        transcription_id=document.transcription_id,
        backfill=document.backfill,
        score=score,
        snippet=shown.text,
        highlights=shown.highlights,
        position_seconds=shown.position_seconds,
        speaker=shown.speaker,
        confidence=document.confidence,
        languages=document.languages,
        completed_at=document.completed_at,
    )
