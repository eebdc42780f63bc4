"""The embedded search index: an SQLite FTS5 file on a local disk, written by several processes at once."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from workers.errors import SearchUnavailable
from workers.search.documents import Document
from workers.search.excerpt import hit_of
from workers.search.query import Query
from workers.search.results import Results
from workers.search.sqlite_file import prepare, refuse_foreign
from workers.search.sqlite_generations import Generations
from workers.search.sqlite_pool import Pool
from workers.search.sqlite_purge import purge
from workers.search.sqlite_query import find
from workers.search.sqlite_write import Row, document_of, row_of, write


class SqliteIndex:
    """The index at a path; safe to use from any thread and from several processes.

    Every method raises SearchUnavailable when the file is locked for longer than 30 s, is damaged or of another
    version, or its disk full. What a write has returned from outlives the process, with `full_sync` a power cut as
    well. An index that another process has rebuilt is noticed by the next call.
    """

    def __init__(self, path: Path, *, full_sync: bool = False) -> None:
        self._path = path
        self._full_sync = full_sync
        self._files = Generations(path)
        self._pools: dict[Path, Pool] = {}
        self._choosing = threading.Lock()

    def upsert(self, documents: Sequence[Document]) -> None:
        """Stores the documents by ref, all or none, in one transaction; safe to repeat.

        An older version than the stored one changes nothing, nor does the same document indexed again; the same
        version with another content replaces it. 100 documents a call go twice as fast as 100 calls.
        """
        self._write(_rows(documents))

    def delete(self, ref: str) -> None:
        """Removes a document; safe to repeat. Its version is forgotten too: any later `upsert` brings it back."""
        self._write({ref: None})

    def search(self, query: Query) -> Results:
        """One page of what the query finds, from one consistent state of the file."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            page = find(connection, query)
            bodies = [
                connection.execute("SELECT body FROM bodies WHERE id = ?", (id_,)).fetchone()[0]
                for id_, _ in page.ranked
            ]
            connection.execute("COMMIT")
        hits = (hit_of(document_of(body), query, score) for body, (_, score) in zip(bodies, page.ranked, strict=True))
        return Results(page.total, page.total_is_exact, page.ranked_all, tuple(hits))

    def get(self, media_id: str) -> Document | None:
        """The document of a media id, the newest if it was transcribed in several ways."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT body FROM documents JOIN bodies USING (id) WHERE media_id = ? ORDER BY id DESC LIMIT 1",
                (media_id,),
            ).fetchone()
        return document_of(row[0]) if row else None

    def count(self) -> int:
        """How many documents there are."""
        with self._reading() as connection:
            (number,) = connection.execute("SELECT count(*) FROM documents").fetchone()
        return int(number)

    def versions(self, after_ref: str | None, most: int) -> list[tuple[str, int]]:
        """Ref and version of the next documents in the order of their refs."""
        with self._reading() as connection:
            return connection.execute(
                "SELECT ref, version FROM documents WHERE ref > ? ORDER BY ref LIMIT ?", (after_ref or "", most)
            ).fetchall()

    def purge(self) -> str | None:
        """Rewrites the files, for which it needs their size in free space; leaves nothing of deleted documents."""
        self._in_each_file(purge)
        return None

    def rebuild(self) -> "SqliteRebuild":
        """Begins a new file beside the present one; needs its size in free space."""
        with self._explained():
            return SqliteRebuild(self._path, full_sync=self._full_sync)

    def check(self) -> None:
        """Reads the whole file, which takes minutes when it is large; raises SearchUnavailable when it is damaged."""
        with self._reading() as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)
            connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")

    def close(self) -> None:
        """Closes the connections that are not in use; a later call opens a new one."""
        with self._choosing:
            pools = list(self._pools.values())
        for pool in pools:
            pool.close()

    def _write(self, wanted: Mapping[str, Row | None]) -> None:
        self._in_each_file(lambda connection: write(connection, wanted))

    def _in_each_file(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Does it in every file that documents go to, anew when they changed meanwhile."""
        with self._explained():
            while True:
                files = self._files.written
                try:
                    for file in files:
                        _work_on(self._pool(file, files), work)
                except (sqlite3.Error, OSError):
                    if files == self._files.written:
                        raise
                else:
                    return

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), self._present().connection() as connection:
            yield connection

    def _present(self) -> Pool:
        """The connections to the present file; when it was switched between two looks, to what is there now."""
        while True:
            files = self._files.written
            pool = self._pool(files[-1], files)
            try:
                with pool.connection():
                    return pool
            except (sqlite3.Error, OSError):
                if files == self._files.written:
                    raise

    def _pool(self, file: Path, used: Sequence[Path]) -> Pool:
        """The connections to one of the files in use; those to files of the past are closed."""
        with self._choosing:
            past = [self._pools.pop(other) for other in list(self._pools) if other not in used]
            if file not in self._pools:
                self._pools[file] = Pool(file, full_sync=self._full_sync, may_make=self._files.may_make(file))
            pool = self._pools[file]
        for old in past:
            old.close()
        return pool

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with _explained(self._path):
            yield


class SqliteRebuild:
    """A new file that is filled beside the present one."""

    def __init__(self, path: Path, *, full_sync: bool) -> None:
        self._path = path
        self._files = Generations(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_foreign(self._files.current)
        self._new = self._files.unused()
        prepare(self._new)
        self._files.fill(self._new)
        self._pool = Pool(self._new, full_sync=full_sync, may_make=False)

    def upsert(self, documents: Sequence[Document]) -> None:
        """Stores documents in the new file only, in one transaction."""
        self._write(_rows(documents))

    def delete(self, ref: str) -> None:
        """Removes a document from the new file only."""
        self._write({ref: None})

    def finish(self) -> None:
        """Puts the new file in the place of the old one, in one step for all processes."""
        with _explained(self._path):
            self._check()
            self._pool.close()
            self._files.switch(self._new)

    def abandon(self) -> None:
        """Removes the new file."""
        with _explained(self._path):
            self._pool.close()
            self._files.drop(self._new)

    def _write(self, wanted: Mapping[str, Row | None]) -> None:
        with _explained(self._path):
            self._check()
            _write_into(self._pool, wanted)

    def _check(self) -> None:
        if self._files.next != self._new:
            raise SearchUnavailable("Somebody else has begun to rebuild the search index: this one is given up.")


def _rows(documents: Sequence[Document]) -> dict[str, Row | None]:
    newest: dict[str, Document] = {}
    for document in documents:
        if document.ref not in newest or newest[document.ref].version <= document.version:
            newest[document.ref] = document
    return {ref: row_of(document) for ref, document in newest.items()}


def _write_into(pool: Pool, wanted: Mapping[str, Row | None]) -> None:
    _work_on(pool, lambda connection: write(connection, wanted))


def _work_on(pool: Pool, work: Callable[[sqlite3.Connection], None]) -> None:
    with pool.connection() as connection:
        work(connection)
        pool.shorten_wal(connection)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise SearchUnavailable(
            f"The search index {path} can't be used ({error}): see that its disk is there and has space; "
            "if the file is damaged, run `retroscribe reindex`, which builds a new one (delete it if that refuses it)."
        ) from error
