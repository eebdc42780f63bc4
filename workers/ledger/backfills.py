"""Backfills and what they ask for: bulk intake, duplicates, rejects and the counts of all of it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select, update

from workers.errors import InputError
from workers.ledger import bulk, course, submissions
from workers.ledger.statements import change, insert_or_ignore, one_after_the_other
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
    fingerprint: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Made with the entry, so that no transaction waits for it.
        object.__setattr__(self, "fingerprint", self.request.fingerprint())


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
    """Takes a batch of at most 2,000 entries in: the same request is one recording, in whichever backfill it is asked.

    Safe to repeat: an entry that this backfill has asked for at the same place changes nothing. Raises InputError when
    the backfill has been cancelled.
    """
    # Two that take the same requests in at once would both find them new.
    one_after_the_other(tx, "intake")
    _refuse_cancelled(backfill.name, course.state_of(tx, backfill.id))
    first: dict[bytes, Asked] = {}
    for one in asked:
        first.setdefault(one.fingerprint, one)
    known = bulk.known(tx, list(first))
    fresh = [one for one in first.values() if one.fingerprint not in known] if known else list(first.values())
    bulk.insert(tx, backfill.id, lane, [bulk.New(one.entry, one.request, one.fingerprint) for one in fresh])
    if len(fresh) == len(asked):
        return Intake(len(fresh), 0, 0)
    others = [one for one in asked if one.fingerprint in known or first[one.fingerprint] is not one]
    known |= bulk.known(tx, list({one.fingerprint for one in others} - known.keys()))
    again = [one for one in others if not _asked_there(known[one.fingerprint], backfill, one)]
    anew, duplicate = _ask_again(tx, backfill, lane, again, known, by=by)
    return Intake(len(fresh) + anew, duplicate, len(others) - anew - duplicate)


def refuse(tx: Connection, backfill: Backfill, refused: Sequence[Refused]) -> None:
    """Keeps entries that can't be used; safe to repeat."""
    now = time.time()
    rows = [
        {"backfill_id": backfill.id, "entry": one.entry, "raw": one.raw[:200], "reason": one.reason, "at": now}
        for one in refused
    ]
    insert_or_ignore(tx, intake_rejects, rows)


def _asked_there(row: bulk.Known, backfill: Backfill, asked: Asked) -> bool:
    """Whether the recording is what this very entry asked for before."""
    return row.backfill_id == backfill.id and row.entry == asked.entry


def _refuse_cancelled(name: str, state: str) -> None:
    if state == CANCELLED:
        raise InputError(
            f"Backfill '{name}' was cancelled and takes nothing in: send the recordings under another name, or have "
            f"those that were cancelled begin anew with `retroscribe retry {name} --state cancelled`."
        )


def _ask_again(
    tx: Connection,
    backfill: Backfill,
    lane: Lane,
    again: Sequence[Asked],
    known: Mapping[bytes, bulk.Known],
    *,
    by: str,
) -> tuple[int, int]:
    """Deals with requests that are recordings already; gives how many began anew here and how many are duplicates."""
    if not again:
        return 0, 0
    noted = select(duplicates.c.entry).where(
        duplicates.c.backfill_id == backfill.id, duplicates.c.entry.in_([one.entry for one in again])
    )
    seen = set(tx.execute(noted).scalars())
    rows = {one.fingerprint: known[one.fingerprint] for one in again}
    ended = [row.id for row in rows.values() if row.state in _BEGIN_ANEW and row.accepted_at is None]
    unpaid = set(ended) - submissions.perhaps_accepted_among(tx, ended) if ended else set()
    anew = 0
    kept: list[dict[str, Any]] = []
    for one in (one for one in again if one.entry not in seen):
        row = rows[one.fingerprint]
        if row.backfill_id != backfill.id and row.id in unpaid and _adopt(tx, row, backfill, one, lane, by=by):
            anew += 1
            unpaid.discard(row.id)
            rows[one.fingerprint] = row._replace(backfill_id=backfill.id, state=State.PENDING)
        else:
            kept.append({"backfill_id": backfill.id, "entry": one.entry, "recording_id": row.id})
            if lane == Lane.LIVE and row.state == State.PENDING and row.lane != Lane.LIVE:
                change(tx, recordings, {"id": row.id, "state": State.PENDING}, {"lane": Lane.LIVE})
    insert_or_ignore(tx, duplicates, kept)
    return anew, len(kept)


def _adopt(tx: Connection, row: bulk.Known, backfill: Backfill, asked: Asked, lane: Lane, *, by: str) -> bool:
    """Makes a recording that ended unpaid elsewhere our own, to begin anew; there it counts as a duplicate."""
    now = time.time()
    values = {"backfill_id": backfill.id, "entry": asked.entry, "lane": lane, "state": State.PENDING}
    ended = (recordings.c.id == row.id) & (recordings.c.state == row.state) & recordings.c.accepted_at.is_(None)
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
    there = {"backfill_id": row.backfill_id, "entry": row.entry, "recording_id": row.id}
    insert_or_ignore(tx, duplicates, [there])
    tx.execute(
        insert(transitions).values(
            recording_id=row.id,
            at=now,
            from_state=row.state,
            to_state=State.PENDING,
            by=by,
            reason=Reason.ASKED_AGAIN,
        )
    )
    return True
