"""The webhook inbox."""

import time
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.engine import RowMapping

from workers.ledger.recordings import from_row, query
from workers.ledger.statements import change, insert_or_ignore
from workers.ledger.tables import IS_ASIDE, IS_NEW, events, recordings
from workers.model import Recording

NEW: Final = "new"
APPLIED: Final = "applied"
IGNORED: Final = "ignored"
REFUSED: Final = "refused"
UNMATCHED: Final = "unmatched"

_WAITING: Final = select(events).where(IS_NEW, events.c.recording_id == bindparam("recording_id")).order_by(events.c.id)
_IS_WAITING: Final = select(events.c.id).where(IS_NEW, events.c.recording_id == bindparam("recording_id")).limit(1)


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event as it came: `packed` is its body by `pack`, `recording_id` None when no submission has its ref."""

    callback_ref: str
    recording_id: int | None
    transcription_id: str
    type: str
    packed: bytes
    has_result: bool
    state: str = NEW
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in the inbox; `packed` is its body by `pack`."""

    id: int
    callback_ref: str
    recording_id: int | None
    transcription_id: str
    type: str
    packed: bytes

    @property
    def payload(self) -> bytes:
        """The body as it was received."""
        return zlib.decompress(self.packed)


def pack(payload: bytes) -> bytes:
    """A body as the ledger keeps it; made before a transaction begins, for a large one takes a while."""
    return zlib.compress(payload, 6)


def store(tx: Connection, arrival: Arrival) -> bool:
    """Keeps an event; False when it is there already. One with a result replaces one without.

    Several receivers may take the same one at once: what another has not committed yet is waited for.
    """
    content = {"payload": arrival.packed, "has_result": arrival.has_result, "state": arrival.state}
    values = {**content, "received_at": time.time(), "detail": arrival.detail}
    key = {"recording_id": arrival.recording_id, "transcription_id": arrival.transcription_id, "type": arrival.type}
    if insert_or_ignore(tx, events, [{**key, **values, "callback_ref": arrival.callback_ref}]):
        return True
    if arrival.recording_id is None:
        key = {"callback_ref": arrival.callback_ref, "transcription_id": arrival.transcription_id, "type": arrival.type}
    return arrival.has_result and change(tx, events, {**key, "has_result": False}, values) == 1


def renew(tx: Connection, arrival: Arrival) -> None:
    """Has an event that is there already applied once more: what was put aside then may hold now."""
    key = {"recording_id": arrival.recording_id, "transcription_id": arrival.transcription_id, "type": arrival.type}
    change(tx, events, key, {"state": NEW, "detail": None})


def waiting(tx: Connection, recording_id: int) -> list[StoredEvent]:
    """The recording's events that nobody has applied yet, oldest first."""
    return [_stored(row) for row in tx.execute(_WAITING, {"recording_id": recording_id}).mappings()]


def get(tx: Connection, event_id: int) -> StoredEvent:
    """The event of that id, which must exist."""
    return _stored(tx.execute(select(events).where(events.c.id == event_id)).mappings().one())


def make_new(tx: Connection, event_id: int, recording_id: int) -> bool:
    """Has an event applied to this recording, whatever came of it before; False when the recording has it already."""
    mine = select(events.c.transcription_id, events.c.type).where(events.c.id == event_id)
    key = tx.execute(mine).one()
    twin = select(events.c.id).where(
        events.c.recording_id == recording_id,
        events.c.transcription_id == key.transcription_id,
        events.c.type == key.type,
        events.c.id != event_id,
    )
    if tx.execute(twin).first() is not None:
        return False
    change(tx, events, {"id": event_id}, {"recording_id": recording_id, "state": NEW, "detail": None})
    return True


def is_waiting(tx: Connection, recording_id: int) -> bool:
    """Whether the inbox holds something of the recording that nobody has applied yet: then nothing is decided."""
    return tx.execute(_IS_WAITING, {"recording_id": recording_id}).first() is not None


def recordings_with_waiting(tx: Connection, most: int, older_than: float) -> list[tuple[int, str]]:
    """Recordings (id, media id) whose events came before `older_than` (Unix seconds) and were not applied yet."""
    rows = (
        select(recordings.c.id, recordings.c.media_id)
        .distinct()
        .join_from(events, recordings)
        .where(IS_NEW, events.c.received_at < older_than)
        .limit(most)
    )
    return [(row.id, row.media_id) for row in tx.execute(rows)]


_NUMBER_WAITING: Final = select(func.count()).select_from(events).where(IS_NEW)
_ASIDE: Final = select(events.c.state, func.count().label("number")).where(IS_ASIDE).group_by(events.c.state)
#: New ones have a recording; to ask for that as well would have SQLite look in another index.
_ANY_WAITING: Final = select(events.c.id).where(IS_NEW).limit(1)
_OLDEST_WAITING: Final = select(events.c.recording_id).where(IS_NEW).order_by(events.c.id).limit(bindparam("most"))
_LOCK_WAITING: Final = (
    query()
    .where(recordings.c.id.in_(_OLDEST_WAITING))
    .order_by(recordings.c.id)
    .with_for_update(of=recordings, skip_locked=True, key_share=True)
)


def is_any_waiting(tx: Connection) -> bool:
    """Whether there is an event that nobody has applied yet."""
    return tx.execute(_ANY_WAITING).first() is not None


def lock_waiting(tx: Connection, most: int) -> list[Recording]:
    """Recordings of the oldest events that nobody has applied yet, held against other writers.

    Those that another transaction holds are left out: it applies them.
    """
    return [from_row(row) for row in tx.execute(_LOCK_WAITING, {"most": most}).mappings()]


def mark(tx: Connection, event_id: int, state: str, detail: str | None = None) -> None:
    """Says what became of an event."""
    change(tx, events, {"id": event_id}, {"state": state, "detail": detail})


@dataclass(frozen=True, slots=True)
class Listed:
    """An event without its payload, for people; `received_at` is Unix seconds, `media_id` and `ref` its recording's."""

    id: int
    received_at: float
    type: str
    state: str
    transcription_id: str
    has_result: bool
    detail: str | None
    media_id: str | None
    ref: str | None


_LISTED: Final = select(
    events.c.id,
    events.c.received_at,
    events.c.type,
    events.c.state,
    events.c.transcription_id,
    events.c.has_result,
    events.c.detail,
    recordings.c.media_id,
    recordings.c.ref,
).join_from(events, recordings, isouter=True)


def waiting_among(tx: Connection, recording_ids: Collection[int]) -> set[int]:
    """Those of the recordings (ids, at most 500) of which the inbox holds something that nobody has applied yet."""
    mine = select(events.c.recording_id).where(IS_NEW, events.c.recording_id.in_(recording_ids))
    return set(tx.execute(mine).scalars())


def of_recording(tx: Connection, recording_id: int) -> list[Listed]:
    """The recording's events, oldest first."""
    mine = _LISTED.where(events.c.recording_id == recording_id).order_by(events.c.id)
    return [Listed(**row) for row in tx.execute(mine).mappings()]


def listed_one(tx: Connection, event_id: int) -> Listed | None:
    """The event of that id, None when there is none."""
    row = tx.execute(_LISTED.where(events.c.id == event_id)).mappings().first()
    return Listed(**row) if row else None


def listed(
    tx: Connection, *, state: str | None = None, recording_ids: Collection[int] | None = None, most: int
) -> list[Listed]:
    """The newest events, newest first: those in that state and of these recordings (ids), if such are named."""
    wanted = _LISTED
    if state is not None:
        wanted = wanted.where(events.c.state == state)
    if state in (REFUSED, UNMATCHED):
        wanted = wanted.where(IS_ASIDE)
    if recording_ids is not None:
        wanted = wanted.where(events.c.recording_id.in_(recording_ids))
    return [Listed(**row) for row in tx.execute(wanted.order_by(events.c.id.desc()).limit(most)).mappings()]


def aside(tx: Connection) -> dict[str, int]:
    """How many events are kept as refused and as unmatched, in the whole inbox; a state without any is left out."""
    return {row.state: row.number for row in tx.execute(_ASIDE)}


def pending(tx: Connection) -> dict[str, int]:
    """How many events of the whole inbox nobody has applied yet, and how many are kept as refused and as unmatched."""
    return {NEW: tx.execute(_NUMBER_WAITING).scalar_one(), REFUSED: 0, UNMATCHED: 0, **aside(tx)}


def _stored(row: RowMapping) -> StoredEvent:
    return StoredEvent(
        row["id"],
        row["callback_ref"],
        row["recording_id"],
        row["transcription_id"],
        row["type"],
        bytes(row["payload"]),
    )
