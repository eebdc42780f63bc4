"""Backfills and what they ask for: bulk intake, duplicates, rejects and the counts of all of it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from workers.errors import InputError
from workers.ledger import bulk, canaries, course, foresight, spending
from workers.ledger.statements import change, insert_or_ignore, one_after_the_other
from workers.ledger.tables import CANCELLED, RUNNING, backfills, duplicates, intake_rejects, recordings, transitions
from workers.model import Bounds, Lane, Reason, State, TranscriptionRequest

UNBOUNDED: Final = Bounds()
#: The option that sets each bound, and the unit in which it is said.
_BOUNDS: Final[Mapping[str, tuple[str, float | None]]] = {
    "max_recordings": ("max-recordings", None),
    "max_audio_seconds": ("max-audio-hours", 3600),
    "canary": ("canary", None),
    "only_between": ("only-between", None),
}
_BY_ID: Final = select(backfills).where(backfills.c.id == bindparam("id"))
_WITH_HOURS: Final = select(backfills.c.id, backfills.c.only_between).where(
    backfills.c.state == RUNNING, backfills.c.only_between.is_not(None)
)
_CAPS: Final = ("max_recordings", "max_audio_seconds")


@dataclass(frozen=True, slots=True)
class Backfill:
    """A named set of recordings; `state` is running, paused or cancelled, `created_at` is Unix seconds.

    `paused_for` says what paused it, None when a person did; `canary_state` what came of the canary, None without one.
    """

    id: int
    name: str
    options: Mapping[str, Any]
    state: str
    created_at: float
    paused_for: str | None = None
    paused_detail: str | None = None
    canary: int | None = None
    canary_state: str | None = None
    only_between: str | None = None


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


def ensure(tx: Connection, name: str, options: Mapping[str, Any], bounds: Bounds = UNBOUNDED) -> Backfill:
    """The backfill of that name, made when new.

    Raises InputError when it exists and an option or a bound that is given differs, or when it was cancelled.
    """
    row = {"name": name, "options": json.dumps(options, sort_keys=True), "state": RUNNING, "created_at": time.time()}
    canary_state = None if bounds.canary is None else canaries.FLYING
    kept = {"canary": bounds.canary, "canary_state": canary_state, "only_between": bounds.only_between}
    new = insert_or_ignore(tx, backfills, [{**row, **kept}])
    backfill = by_name(tx, name)
    assert backfill is not None  # noqa: S101 it was just made
    if new:
        spending.begin(tx, backfill.id, bounds)
        return backfill
    check(backfill, options)
    _refuse_other_bounds(tx, backfill, bounds)
    return backfill


def check(backfill: Backfill, options: Mapping[str, Any]) -> None:
    """Raises InputError when the backfill takes nothing in with these options: one differs, or it was cancelled."""
    other = sorted(key for key in backfill.options.keys() & options.keys() if backfill.options[key] != options[key])
    if other:
        shown = ", ".join(f"{key} {backfill.options[key]!r}, not {options[key]!r}" for key in other)
        raise InputError(f"Backfill '{backfill.name}' exists with {shown}: repeat its options, or choose another name.")
    _refuse_cancelled(backfill.name, backfill.state)


def by_name(tx: Connection, name: str) -> Backfill | None:
    row = tx.execute(select(backfills).where(backfills.c.name == name)).mappings().first()
    return None if row is None else Backfill(**{**row, "options": json.loads(row["options"])})


def get(tx: Connection, backfill_id: int) -> Backfill:
    """The backfill of that id, which must exist."""
    row = tx.execute(_BY_ID, {"id": backfill_id}).mappings().one()
    return Backfill(**{**row, "options": json.loads(row["options"])})


def with_hours(tx: Connection) -> dict[int, str]:
    """The running backfills (ids) that have quiet hours, and when they may go."""
    rows = tx.execute(_WITH_HOURS)
    return {row.id: row.only_between for row in rows}


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
    again = [one for one in others if not foresight.asked_there(known[one.fingerprint], backfill.id, one.entry)]
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


def bounds_of(tx: Connection, backfill: Backfill) -> Bounds:
    """What the backfill keeps within now."""
    spent = spending.of(tx, backfill.id)
    caps = (spent.max_recordings, spent.max_audio_seconds) if spent else (None, None)
    return Bounds(*caps, backfill.canary, backfill.only_between)


def _refuse_other_bounds(tx: Connection, backfill: Backfill, bounds: Bounds) -> None:
    """Refuses bounds that are given and are not what the backfill has; those that are left out stay as they are."""
    present = bounds_of(tx, backfill)
    for field_ in fields(Bounds):
        has, given = getattr(present, field_.name), getattr(bounds, field_.name)
        if given is not None and given != has:
            option, unit = _BOUNDS[field_.name]
            was = f"without --{option}" if has is None else f"with --{option} {_in(has, unit)}"
            raised = f", change a cap with `retroscribe resume {backfill.name}`" if field_.name in _CAPS else ""
            raise InputError(
                f"Backfill '{backfill.name}' exists {was}, not {_in(given, unit)}: repeat its options, leave them "
                f"out{raised}, or choose another name."
            )


def _in(value: float | str, unit: float | None) -> str:
    return str(value) if unit is None or isinstance(value, str) else f"{value / unit:g}"


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
    seen = foresight.noted(tx, backfill.id, [one.entry for one in again])
    rows = {one.fingerprint: known[one.fingerprint] for one in again}
    unpaid = foresight.unpaid(tx, rows.values())
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
