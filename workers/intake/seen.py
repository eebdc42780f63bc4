"""Remembers what a list has asked for, however long it is, without the ledger."""

import sqlite3
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from workers.errors import InputError

#: Of a fingerprint's 32 bytes: among ten million requests two are taken for one with a chance of 1 in 10^25.
_DIGEST_BYTES: Final = 16
_ROWS: Final = 100
#: About two million requests; beyond that SQLite keeps the rest in its temporary file.
_CACHE_KIB: Final = 64_000


class Seen:
    """The requests that came before, in a temporary file that nobody else sees and that goes with it."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def among(self, fingerprints: Sequence[bytes]) -> set[bytes]:
        """Those of the requests (by fingerprint) that were added before."""
        found: set[bytes] = set()
        for at in range(0, len(fingerprints), _ROWS):
            chunk = {one[:_DIGEST_BYTES]: one for one in fingerprints[at : at + _ROWS]}
            marks = ", ".join("?" * len(chunk))
            rows = self._db.execute(f"SELECT digest FROM seen WHERE digest IN ({marks})", list(chunk))  # noqa: S608 placeholders only
            found.update(chunk[digest] for (digest,) in rows)
        return found

    def add(self, fingerprints: Sequence[bytes]) -> None:
        """Remembers requests that were not seen before. Raises InputError when there is no room for them."""
        try:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT INTO seen VALUES (?)", ((one[:_DIGEST_BYTES],) for one in fingerprints))
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise InputError(
                f"The temporary folder can't take what this list asks for, about 30 MB a million lines ({error}): "
                "set TMPDIR to a folder with more room."
            ) from None
