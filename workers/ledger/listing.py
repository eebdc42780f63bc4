"""Goes through everything that a backfill asked for, page by page: each page is one short look at the ledger."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, exists, select, union_all
from sqlalchemy.engine import RowMapping

from workers.ledger.states import WITH_REASONS
from workers.ledger.tables import backfills, duplicates, in_state_with_reason, intake_rejects, recordings, transcripts
from workers.model import State

#: Rows of a page.
PAGE: Final = 500
#: What has a transcript that is not forgotten.
WITH_TRANSCRIPTS: Final = (State.COMPLETED, State.INDEXED)


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one entry of a backfill; times are Unix seconds.

    `entry` is its line, or its place in a message. A `duplicate` shares the recording of another entry: `backfill` says
    whose that one is.
    """

    id: int
    entry: int
    duplicate: bool
    media_id: str
    ref: str
    backfill: str
    lane: str
    languages: tuple[str, ...]
    state: State
    reason: str | None
    detail: str | None
    transcription_id: str | None
    duration_seconds: float | None
    created_at: float
    changed_at: float


@dataclass(frozen=True, slots=True)
class Unusable:
    """An entry that could not be used: `raw` is what came, cut at 200 characters, `at` when (Unix seconds)."""

    entry: int
    raw: str
    reason: str
    at: float


_ROW: Final = select(
    *(recordings.c[field.name] for field in fields(Entry) if field.name in recordings.c),
    backfills.c.name.label("backfill"),
).join_from(recordings, backfills)
_BY_ID: Final = _ROW.where(recordings.c.id.in_(bindparam("ids", expanding=True))).order_by(recordings.c.id)
_BY_ID_WITH_REASON: Final = _BY_ID.where(recordings.c.reason == bindparam("reason"))
_SHARED: Final = (
    select(duplicates.c.entry, duplicates.c.recording_id)
    .where(duplicates.c.backfill_id == bindparam("backfill_id"), duplicates.c.entry > bindparam("after"))
    .order_by(duplicates.c.entry)
    .limit(PAGE)
)
_before: Final = duplicates.alias("before")
_SHARED_ONCE: Final = _SHARED.join_from(duplicates, recordings).where(
    recordings.c.backfill_id != duplicates.c.backfill_id,
    ~exists().where(
        _before.c.recording_id == duplicates.c.recording_id,
        _before.c.backfill_id == duplicates.c.backfill_id,
        _before.c.entry < duplicates.c.entry,
    ),
)
_UNUSABLE: Final = (
    select(intake_rejects.c.entry, intake_rejects.c.raw, intake_rejects.c.reason, intake_rejects.c.at)
    .where(intake_rejects.c.backfill_id == bindparam("backfill_id"), intake_rejects.c.entry > bindparam("after"))
    .order_by(intake_rejects.c.entry)
    .limit(PAGE)
)
_PAYLOADS: Final = (
    select(transcripts.c.recording_id, transcripts.c.payload)
    .join_from(transcripts, recordings)
    .where(
        recordings.c.id.in_(bindparam("ids", expanding=True)),
        recordings.c.state.in_([str(state) for state in WITH_TRANSCRIPTS]),
    )
)


def own(
    tx: Connection, backfill_id: int, states: Collection[State], reason: str | None, *, after: int
) -> tuple[list[Entry], int | None]:
    """The next of the backfill's own recordings that are in these states and, if one is named, have that reason.

    They come in the order of their ids; `after` is -1 or what the call before gave beside them, which is None after the
    last page. A page may have none although others follow.
    """
    wanted = {"backfill_id": backfill_id, "after": after, "reason": reason}
    found = _ids(frozenset(states), tx.dialect.name, with_reason=reason is not None)
    ids = list(tx.execute(found, wanted).scalars())
    rows = _BY_ID if reason is None else _BY_ID_WITH_REASON
    entries = tx.execute(rows, {"ids": ids, "reason": reason}).mappings().all() if ids else ()
    return [_entry(row) for row in entries], ids[-1] if len(ids) == PAGE else None


def shared(
    tx: Connection, backfill_id: int, states: Collection[State], reason: str | None, *, after: int, once: bool = False
) -> tuple[list[Entry], int | None]:
    """As `own`, for the backfill's entries that share a recording that was asked for before, in their own order.

    `once`: only recordings of other backfills, and each with its first entry only.
    """
    found = tx.execute(_SHARED_ONCE if once else _SHARED, {"backfill_id": backfill_id, "after": after}).all()
    ids = list({row.recording_id for row in found})
    rows = {row["id"]: row for row in tx.execute(_BY_ID, {"ids": ids}).mappings()} if ids else {}
    entries = [_entry(rows[row.recording_id], shared_by=row.entry) for row in found]
    wanted = [one for one in entries if one.state in states and reason in (None, one.reason)]
    return wanted, found[-1].entry if len(found) == PAGE else None


def unusable(tx: Connection, backfill_id: int, *, after: int) -> tuple[list[Unusable], int | None]:
    """As `own`, for the backfill's entries that could not be used, in their own order."""
    found = [Unusable(**row) for row in tx.execute(_UNUSABLE, {"backfill_id": backfill_id, "after": after}).mappings()]
    return found, found[-1].entry if len(found) == PAGE else None


def entry(tx: Connection, recording_id: int) -> Entry:
    """The recording, which must exist, as its own backfill lists it."""
    return _entry(tx.execute(_BY_ID, {"ids": [recording_id]}).mappings().one())


def packed_transcripts(tx: Connection, recording_ids: Sequence[int]) -> dict[int, bytes]:
    """What the API sent for those of the recordings (ids) that have a transcript now, packed; never a forgotten one."""
    rows = tx.execute(_PAYLOADS, {"ids": list(recording_ids)})
    return {row.recording_id: bytes(row.payload) for row in rows}


@lru_cache(maxsize=64)
def _ids(states: frozenset[State], dialect: str, *, with_reason: bool) -> Select[Any]:
    """The next recordings in these states: of each state as many as a page has, in the order of an index, merged.

    Only for states that are indexed by reason the reason is looked up here; of the others all come, so that a page ends
    after PAGE rows however few have that reason.
    """
    mine = [recordings.c.backfill_id == bindparam("backfill_id"), recordings.c.id > bindparam("after")]
    parts = []
    for state in sorted(states):
        part = select(recordings.c.id).where(*mine)
        if with_reason and state in WITH_REASONS:
            part = part.where(in_state_with_reason(state, dialect), recordings.c.reason == bindparam("reason"))
        else:
            part = part.where(recordings.c.state == str(state))
        parts.append(select(part.order_by(recordings.c.id).limit(PAGE).subquery().c.id))
    merged = union_all(*parts).subquery()
    return select(merged.c.id).order_by(merged.c.id).limit(PAGE)


def _entry(row: RowMapping, *, shared_by: int | None = None) -> Entry:
    values = {**row, "state": State(row["state"]), "languages": tuple(row["languages"].split(","))}
    if shared_by is not None:
        values["entry"] = shared_by
    return Entry(**values, duplicate=shared_by is not None)
