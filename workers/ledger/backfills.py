"""Backfills and what they ask for: bulk intake, duplicates, rejects and the counts of all of it."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from workers.errors import InputError
from workers.ledger import course, submissions
from workers.ledger.statements import insert_or_ignore, one_after_the_other
from workers.ledger.tables import CANCELLED, RUNNING, backfills, duplicates, intake_rejects, recordings, transitions
from workers.model import Lane, Reason, State, TranscriptionRequest

#: Asked for again, these begin anew, unless something was accepted for them before.
_BEGIN_ANEW = (State.CANCELLED, State.REJECTED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Backfill:
    """A named set of recordings; `state` is running, paused or cancelled, `created_at` is Unix seconds."""

    id: int
    name: str
    options: Mapping[str, Any]
    state: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One entry of a backfill: `entry` is its line or its place in a message, the same each time it is sent."""

    entry: int
    request: TranscriptionRequest


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that can't be used, as it came and why; `raw` is cut at 200 characters."""

    entry: int
    raw: str
    reason: str


@dataclass(frozen=True, slots=True)
class Intake:
    """How many entries of a batch were new, asked for already, and known from an earlier sending of the same batch."""

    accepted: int
    duplicates: int
    repeated: int


def ensure(tx: Connection, name: str, options: Mapping[str, Any]) -> Backfill:
    """The backfill of that name, made when new.

    Raises InputError when it exists and an option differs, or when it was cancelled.
    """
    row = {"name": name, "options": json.dumps(options, sort_keys=True), "state": RUNNING, "created_at": time.time()}
    insert_or_ignore(tx, backfills, [row])
    backfill = by_name(tx, name)
    assert backfill is not None  # noqa: S101 it was just made
    other = sorted(key for key in backfill.options.keys() & options.keys() if backfill.options[key] != options[key])
    if other:
        shown = ", ".join(f"{key} {backfill.options[key]!r}, not {options[key]!r}" for key in other)
        raise InputError(f"Backfill '{name}' exists with {shown}: repeat its options, or choose another name.")
    _refuse_cancelled(name, backfill.state)
    return backfill


def by_name(tx: Connection, name: str) -> Backfill | None:
    row = tx.execute(select(backfills).where(backfills.c.name == name)).mappings().first()
    return None if row is None else Backfill(**{**row, "options": json.loads(row["options"])})


def every(tx: Connection) -> list[Backfill]:
    """All backfills, oldest first."""
    rows = tx.execute(select(backfills).order_by(backfills.c.id)).mappings()
    return [Backfill(**{**row, "options": json.loads(row["options"])}) for row in rows]


def add(tx: Connection, backfill: Backfill, lane: Lane, asked: Sequence[Asked], *, by: str) -> Intake:
    """Takes a batch of at most 500 entries in: the same request is one recording, in whichever backfill it is asked.

    Safe to repeat: an entry that this backfill has asked for at the same place changes nothing. Raises InputError when
    the backfill has been cancelled.
    """
    # Two that take the same requests in, each in its own order, would wait for each other's rows.
    one_after_the_other(tx, "intake")
    _refuse_cancelled(backfill.name, course.state_of(tx, backfill.id))
    now = time.time()
    by_fingerprint: dict[bytes, Asked] = {}
    for one in asked:
        by_fingerprint.setdefault(one.request.fingerprint(), one)
    known = _known(tx, list(by_fingerprint))
    fresh = [
        _row(one, fingerprint, backfill.id, lane, now)
        for fingerprint, one in by_fingerprint.items()
        if fingerprint not in known
    ]
    insert_or_ignore(tx, recordings, fresh)
    if fresh:
        known = _known(tx, list(by_fingerprint))
    new_refs = {row["ref"] for row in fresh}
    accepted = repeated = 0
    again: list[dict[str, Any]] = []
    for one in asked:
        row = known[one.request.fingerprint()]
        if row["backfill_id"] == backfill.id and row["entry"] == one.entry:
            accepted += row["ref"] in new_refs
            repeated += row["ref"] not in new_refs
        else:
            again.append({"backfill_id": backfill.id, "entry": one.entry, "recording_id": row["id"]})
    counted = _ask_again(tx, backfill, lane, again, known.values(), by=by)
    return Intake(accepted + counted[0], counted[1], repeated + len(again) - sum(counted))


def refuse(tx: Connection, backfill: Backfill, refused: Sequence[Refused]) -> None:
    """Keeps entries that can't be used; safe to repeat."""
    now = time.time()
    rows = [
        {"backfill_id": backfill.id, "entry": one.entry, "raw": one.raw[:200], "reason": one.reason, "at": now}
        for one in refused
    ]
    insert_or_ignore(tx, intake_rejects, rows)


def _refuse_cancelled(name: str, state: str) -> None:
    if state == CANCELLED:
        raise InputError(
            f"Backfill '{name}' was cancelled and takes nothing in: send the recordings under another name, or have "
            f"those that were cancelled begin anew with `retroscribe retry {name} --state cancelled`."
        )


def _known(tx: Connection, fingerprints: Sequence[bytes]) -> dict[bytes, Mapping[str, Any]]:
    columns = (recordings.c.id, recordings.c.ref, recordings.c.fingerprint, recordings.c.backfill_id)
    more = (recordings.c.entry, recordings.c.state, recordings.c.lane, recordings.c.accepted_at)
    rows = tx.execute(select(*columns, *more).where(recordings.c.fingerprint.in_(fingerprints))).mappings()
    return {bytes(row["fingerprint"]): dict(row) for row in rows}


def _row(one: Asked, fingerprint: bytes, backfill_id: int, lane: Lane, now: float) -> dict[str, Any]:
    return {
        "ref": uuid.uuid4().hex,
        "media_id": one.request.media_id,
        "languages": ",".join(one.request.languages),
        "redaction_policy_id": one.request.redaction_policy_id,
        "speaker_identification": one.request.speaker_identification,
        "fingerprint": fingerprint,
        "backfill_id": backfill_id,
        "entry": one.entry,
        "lane": lane,
        "state": State.PENDING,
        "epoch": 0,
        "attempts": 0,
        "resends": 0,
        "polls": 0,
        "due_at": now,
        "created_at": now,
        "changed_at": now,
    }


def _ask_again(
    tx: Connection, backfill: Backfill, lane: Lane, again: Sequence[dict[str, Any]], known: Any, *, by: str
) -> tuple[int, int]:
    """Deals with requests that are recordings already; gives how many began anew here and how many are duplicates."""
    if not again:
        return 0, 0
    rows = {row["id"]: row for row in known}
    noted = select(duplicates.c.entry).where(
        duplicates.c.backfill_id == backfill.id, duplicates.c.entry.in_([one["entry"] for one in again])
    )
    seen = set(tx.execute(noted).scalars())
    ended = [id_ for id_, row in rows.items() if row["state"] in _BEGIN_ANEW and row["accepted_at"] is None]
    unpaid = set(ended) - submissions.perhaps_accepted_among(tx, ended) if ended else set()
    anew = 0
    kept: list[dict[str, Any]] = []
    for one in (one for one in again if one["entry"] not in seen):
        row = rows[one["recording_id"]]
        other = row["backfill_id"] != backfill.id
        if other and row["id"] in unpaid and _adopt(tx, row, one, lane, by=by):
            anew += 1
            unpaid.discard(row["id"])
            rows[row["id"]] = {**row, "backfill_id": backfill.id, "state": State.PENDING}
        else:
            kept.append(one)
            if lane == Lane.LIVE and row["state"] == State.PENDING and row["lane"] != Lane.LIVE:
                waiting = (recordings.c.id == row["id"]) & (recordings.c.state == State.PENDING)
                tx.execute(update(recordings).where(waiting).values(lane=Lane.LIVE))
    insert_or_ignore(tx, duplicates, kept)
    return anew, len(kept)


def _adopt(tx: Connection, row: Mapping[str, Any], asked: Mapping[str, Any], lane: Lane, *, by: str) -> bool:
    """Makes a recording that ended unpaid elsewhere our own, to begin anew; there it counts as a duplicate."""
    now = time.time()
    values = {"backfill_id": asked["backfill_id"], "entry": asked["entry"], "lane": lane, "state": State.PENDING}
    ended = (recordings.c.id == row["id"]) & (recordings.c.state == row["state"]) & recordings.c.accepted_at.is_(None)
    changed = (
        update(recordings)
        .where(ended)
        .values(
            **values,
            reason=None,
            detail=None,
            attempts=0,
            resends=0,
            epoch=recordings.c.epoch + 1,
            due_at=now,
            changed_at=now,
        )
    )
    if tx.execute(changed).rowcount == 0:
        return False
    insert_or_ignore(
        tx, duplicates, [{"backfill_id": row["backfill_id"], "entry": row["entry"], "recording_id": row["id"]}]
    )
    tx.execute(
        insert(transitions).values(
            recording_id=row["id"],
            at=now,
            from_state=row["state"],
            to_state=State.PENDING,
            by=by,
            reason=Reason.ASKED_AGAIN,
        )
    )
    return True
