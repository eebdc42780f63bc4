"""Looks up and inserts hundreds of recordings at a time, as each database does it fastest."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from sqlalchemy import Connection

from workers.model import Lane, State, TranscriptionRequest

T = TypeVar("T")

#: Rows a statement on SQLite. Larger ones gain nothing, and the driver keeps the last 128 that it has prepared.
_ROWS: Final = 100
_OWN: Final = ("ref", "media_id", "languages", "redaction_policy_id", "speaker_identification", "fingerprint", "entry")
_SHARED: Final = ("backfill_id", "lane", "state", "due_at", "created_at", "changed_at")
_ZERO: Final = ("epoch", "attempts", "resends", "polls")
_INTO: Final = f"INSERT INTO recordings ({', '.join((*_SHARED, *_ZERO, *_OWN))})"
_ZEROS: Final = ", ".join("0" for _ in _ZERO)
_KNOWN: Final = "SELECT id, fingerprint, backfill_id, entry, state, lane, accepted_at FROM recordings WHERE fingerprint"

# Arrays: one statement whose text is always the same, one round trip and one plan for all rows.
_POSTGRESQL_KNOWN: Final = f"{_KNOWN} = ANY(%s)"
_ARRAYS: Final = "%s::text[], %s::text[], %s::text[], %s::text[], %s::boolean[], %s::bytea[], %s::bigint[]"
_POSTGRESQL_INSERT: Final = f"{_INTO} SELECT {', '.join('%s' for _ in _SHARED)}, {_ZEROS}, * FROM unnest({_ARRAYS})"  # noqa: S608 constants only


class Known(NamedTuple):
    """What intake needs to know of a recording that exists."""

    id: int
    fingerprint: bytes
    backfill_id: int
    entry: int
    state: str
    lane: str
    accepted_at: float | None


class New(NamedTuple):
    """A recording to be: which entry asked for it, and for what."""

    entry: int
    request: TranscriptionRequest
    fingerprint: bytes


def known(tx: Connection, fingerprints: Sequence[bytes]) -> dict[bytes, Known]:
    """Those of the requests that are recordings, by fingerprint."""
    if not fingerprints:
        return {}
    if tx.dialect.name == "postgresql":
        rows = tx.exec_driver_sql(_POSTGRESQL_KNOWN, (list(fingerprints),)).all()
        return {row.fingerprint: Known(*row) for row in rows}
    found: dict[bytes, Known] = {}
    for chunk in _chunks(fingerprints):
        for row in tx.exec_driver_sql(_sqlite_known(len(chunk)), tuple(chunk)):
            found[row[1]] = Known(*row)
    return found


def insert(tx: Connection, backfill_id: int, lane: Lane, new: Sequence[New]) -> None:
    """Inserts requests that are no recordings yet, to be submitted in this order."""
    if not new:
        return
    now = time.time()
    shared = (backfill_id, str(lane), str(State.PENDING), now, now, now)
    rows = list(map(_row, _refs(len(new)), new))
    if tx.dialect.name == "postgresql":
        tx.exec_driver_sql(_POSTGRESQL_INSERT, (*shared, *map(list, zip(*rows, strict=True))))
        return
    for chunk in _chunks(rows):
        tx.exec_driver_sql(_sqlite_insert(len(chunk)), (*shared, *(value for row in chunk for value in row)))


def _row(ref: str, new: New) -> tuple[str, str, str, str | None, bool, bytes, int]:
    wanted = new.request
    languages = ",".join(wanted.languages)
    policy, speakers = wanted.redaction_policy_id, wanted.speaker_identification
    return ref, wanted.media_id, languages, policy, speakers, new.fingerprint, new.entry


def _refs(count: int) -> Iterator[str]:
    """Random refs, each a UUID of version 4 in hex.

    Those of a batch begin with the same two random bytes, so that they lie side by side in their index: else each row
    would change a page of its own there, which costs a third of all that is written. 106 random bits are left.
    """
    first, rest = os.urandom(2).hex(), os.urandom(14 * count).hex()
    for at in range(0, 28 * count, 28):
        one = rest[at : at + 28]
        yield f"{first}{one[:8]}4{one[9:12]}{'89ab'[int(one[12], 16) & 3]}{one[13:]}"


def _chunks(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[at : at + _ROWS] for at in range(0, len(items), _ROWS))


@lru_cache(maxsize=_ROWS)
def _sqlite_known(count: int) -> str:
    return f"{_KNOWN} IN ({', '.join('?' * count)})"


@lru_cache(maxsize=_ROWS)
def _sqlite_insert(count: int) -> str:
    row = f"({', '.join('?' for _ in _OWN)})"
    shared, rows = ", ".join("?" for _ in _SHARED), ", ".join([row] * count)
    return f"{_INTO} SELECT {shared}, {_ZEROS}, * FROM (VALUES {rows})"  # noqa: S608 placeholders only
