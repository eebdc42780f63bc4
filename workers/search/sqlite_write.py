"""How documents are written to the embedded index: prepared first, then one short transaction."""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.search.documents import Document, from_json, to_json
from workers.search.words import searchable

# An id is the second in which the recording was asked for, times this, plus a number within the second: newest first
# is the order of ids, and a range of dates one of ids. A manifest's 20,000 rows a second need room (1,024 were few).
IDS_A_SECOND = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """A document as it goes into the file."""

    document: Document
    data: dict[str, Any]
    body: bytes
    words: str


@dataclass(frozen=True, slots=True)
class _Stored:
    """A document as the file has it."""

    id: int
    version: int
    body: bytes


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes of one ref: what stands there goes, the new row, if any, comes."""

    ref: str
    old: _Stored | None
    old_words: str
    new: Row | None

    @property
    def order(self) -> int:
        """About the id it will have: FTS5 writes fastest in the order of ids."""
        if self.old:
            return self.old.id
        return first_id(self.new.document.created_at) if self.new else 0


def row_of(document: Document) -> Row:
    data = to_json(document)
    del data["content"]  # the segments have it
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return Row(document, data, zlib.compress(body), searchable(document.text))


def document_of(body: bytes) -> Document:
    """The document of a stored body."""
    return from_json(_data(body))


def first_id(seconds: float) -> int:
    """The smallest id of a second."""
    return max(0, int(seconds)) * IDS_A_SECOND


def write(connection: sqlite3.Connection, wanted: Mapping[str, Row | None]) -> None:
    """Makes each ref what is wanted, None: nothing, in one transaction; an older version changes nothing.

    What takes long is done before the transaction, with what is stored at that moment; if another process changes
    that meanwhile, it is done again.
    """
    while True:
        changes = _changes(_stored(connection, wanted), wanted)
        if not changes or _committed(connection, changes):
            return


def _changes(stored: Mapping[str, _Stored], wanted: Mapping[str, Row | None]) -> list[_Change]:
    changes = []
    for ref, new in wanted.items():
        old = stored.get(ref)
        if old is None:
            if new is not None:
                changes.append(_Change(ref, None, "", new))
        elif new is None or (old.version <= new.document.version and not _equal(_data(old.body), new.data)):
            changes.append(_Change(ref, old, searchable(document_of(old.body).text), new))
    return sorted(changes, key=lambda change: change.order)


def _committed(connection: sqlite3.Connection, changes: Sequence[_Change]) -> bool:
    """False, and nothing is written, when what is stored is no longer what the changes were made for."""
    connection.execute("BEGIN IMMEDIATE")
    if _stored(connection, (change.ref for change in changes)) != {c.ref: c.old for c in changes if c.old}:
        connection.execute("ROLLBACK")
        return False
    for change in changes:
        if change.old:
            _remove(connection, change.old, change.old_words)
        if change.new:
            id_ = change.old.id if change.old else _free_id(connection, change.new.document.created_at)
            _insert(connection, id_, change.new)
    connection.execute("COMMIT")
    return True


def _stored(connection: sqlite3.Connection, refs: Iterable[str]) -> dict[str, _Stored]:
    statement = "SELECT id, version, body FROM documents JOIN bodies USING (id) WHERE ref = ?"
    rows = ((ref, connection.execute(statement, (ref,)).fetchone()) for ref in refs)
    return {ref: _Stored(*row) for ref, row in rows if row}


def _free_id(connection: sqlite3.Connection, created_at: float) -> int:
    """The next id of the second, or of the first second after it that is not full."""
    first = first_id(created_at)
    while True:
        (last,) = connection.execute(
            "SELECT max(id) FROM documents WHERE id BETWEEN ? AND ?", (first, first + IDS_A_SECOND - 1)
        ).fetchone()
        if last is None:
            return first
        if last < first + IDS_A_SECOND - 1:
            return int(last) + 1
        first += IDS_A_SECOND


def _insert(connection: sqlite3.Connection, id_: int, row: Row) -> None:
    document = row.document
    connection.execute(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            id_,
            document.ref,
            document.version,
            document.media_id,
            document.backfill,
            f",{','.join(document.languages).lower()},",
            document.confidence,
            document.duration_seconds,
            document.redacted,
        ),
    )
    connection.execute("INSERT INTO bodies (id, body) VALUES (?, ?)", (id_, row.body))
    connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (id_, row.words))


def _remove(connection: sqlite3.Connection, old: _Stored, old_words: str) -> None:
    """FTS5 without content forgets a row only when it is given exactly what was indexed."""
    connection.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (old.id, old_words))
    connection.execute("DELETE FROM bodies WHERE id = ?", (old.id,))
    connection.execute("DELETE FROM documents WHERE id = ?", (old.id,))


def _data(body: bytes) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(zlib.decompress(body).decode("utf-8", "surrogatepass"))
    return data


def _equal(stored: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether they differ in nothing but the moment of indexing."""
    return stored | {"indexedAt": None} == new | {"indexedAt": None}
