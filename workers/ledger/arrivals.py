"""Many events that came at once, in a few statements: whom they are for, whose their ids are, and which are new."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from workers.ledger.events import Arrival
from workers.ledger.statements import among, change
from workers.ledger.tables import double_acceptances, events, recordings, submissions
from workers.model import State

#: What makes two events the same: the recording, or the callback ref when there is none; transcription id; type.
Key = tuple[int | str, str, str]

_ADDRESSEES: Final = (
    select(
        submissions.c.callback_ref,
        recordings.c.id,
        recordings.c.media_id,
        recordings.c.transcription_id,
    )
    .join_from(submissions, recordings)
    .where(submissions.c.callback_ref.in_(bindparam("refs", expanding=True)))
)
_OWNERS: Final = (
    select(submissions.c.transcription_id, submissions.c.recording_id)
    .where(submissions.c.transcription_id.in_(bindparam("ids", expanding=True)))
    .union_all(
        select(double_acceptances.c.transcription_id, double_acceptances.c.recording_id).where(
            double_acceptances.c.transcription_id.in_(bindparam("ids", expanding=True))
        )
    )
)


@dataclass(frozen=True, slots=True)
class Addressee:
    """What has to be known of the recording that an event is for; `transcription_id` is that of its present one."""

    recording_id: int
    media_id: str
    transcription_id: str | None


def addressees(tx: Connection, callback_refs: Collection[str]) -> dict[str, Addressee]:
    """The recordings that these refs belong to; a ref that no submission has is left out."""
    rows = tx.execute(_ADDRESSEES, {"refs": sorted(set(callback_refs))})
    return {row.callback_ref: Addressee(row.id, row.media_id, row.transcription_id) for row in rows}


def owners(tx: Connection, transcription_ids: Collection[str]) -> dict[str, int]:
    """The recordings (ids) that the API accepted under these ids, as `submissions.owner` has it for one."""
    rows = tx.execute(_OWNERS, {"ids": sorted(set(transcription_ids))})
    found: dict[str, int] = {}
    for row in rows:
        found.setdefault(row.transcription_id, row.recording_id)
    return found


def hold(tx: Connection, recording_ids: Collection[int]) -> dict[int, State]:
    """The states of these recordings, which nobody changes before the transaction ends; others may hold them too."""
    if not recording_ids:
        return {}
    these = select(recordings.c.id, recordings.c.state).where(among(tx, recordings.c.id, recording_ids))
    rows = tx.execute(these.order_by(recordings.c.id).with_for_update(read=True))
    return {row.id: State(row.state) for row in rows}


def store_all(tx: Connection, arrivals: Sequence[Arrival]) -> list[bool]:
    """Keeps events as `events.store` does one after the other, and tells of each whether it was kept.

    Several receivers may take the same ones at once: what another has not committed yet is waited for, in the same
    order by all.
    """
    keys = [_key(arrival) for arrival in arrivals]
    chosen: dict[Key, int] = {}
    kept = [False] * len(arrivals)
    for number, arrival in enumerate(arrivals):
        before = chosen.setdefault(keys[number], number)
        # One with a result takes the place of one without, here as in the ledger.
        if before == number or (arrival.has_result and not arrivals[before].has_result):
            chosen[keys[number]] = number
            kept[number] = True
    ordered = sorted(chosen.values(), key=lambda number: (keys[number][1:], str(keys[number][0])))
    new = _insert(tx, [arrivals[number] for number in ordered])
    known = {keys[number]: _replaced(tx, arrivals[number]) for number in ordered if keys[number] not in new}
    return [known[key] and number == chosen[key] if key in known else kept[number] for number, key in enumerate(keys)]


def _key(arrival: Arrival) -> Key:
    who = arrival.callback_ref if arrival.recording_id is None else arrival.recording_id
    return who, arrival.transcription_id, arrival.type


def _insert(tx: Connection, arrivals: Sequence[Arrival]) -> set[Key]:
    """The keys of those that were not there before."""
    now = time.time()
    rows: list[dict[str, Any]] = [
        {
            "received_at": now,
            "callback_ref": one.callback_ref,
            "recording_id": one.recording_id,
            "transcription_id": one.transcription_id,
            "type": one.type,
            "payload": one.packed,
            "has_result": one.has_result,
            "state": one.state,
            "detail": one.detail,
        }
        for one in arrivals
    ]
    inserted = tx.execute(_insert_new(tx.dialect.name), rows) if rows else ()
    return {
        (row.callback_ref if row.recording_id is None else row.recording_id, row.transcription_id, row.type)
        for row in inserted
    }


def _replaced(tx: Connection, arrival: Arrival) -> bool:
    """Whether the event, which is there already, has now a result that it had not."""
    if not arrival.has_result:
        return False
    who = {"recording_id": arrival.recording_id}
    if arrival.recording_id is None:
        who = {"callback_ref": arrival.callback_ref}  # type: ignore[dict-item]
    key = {**who, "transcription_id": arrival.transcription_id, "type": arrival.type, "has_result": False}
    content = {"payload": arrival.packed, "has_result": True, "state": arrival.state, "detail": arrival.detail}
    return change(tx, events, key, {**content, "received_at": time.time()}) == 1


@lru_cache(maxsize=2)
def _insert_new(dialect: str) -> Any:
    build = sqlite.insert if dialect == "sqlite" else postgresql.insert
    columns = (events.c.callback_ref, events.c.recording_id, events.c.transcription_id, events.c.type)
    return build(events).on_conflict_do_nothing().returning(*columns)
