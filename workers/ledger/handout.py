"""Hands recordings out, from `pending` to `queued`, and counts what is out and what waits."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from workers.ledger.recordings import from_row, move, query
from workers.ledger.statements import among
from workers.ledger.tables import IS_OUT, IS_PENDING, RUNNING, backfills, recordings, transitions
from workers.model import Lane, Recording, State


@dataclass(frozen=True, slots=True)
class Out:
    """How many recordings are with Celery and not submitted yet, and when the newest was handed out (Unix seconds)."""

    number: int
    newest_at: float


def out(tx: Connection, lane: Lane, held: Collection[int] = ()) -> dict[int, Out]:
    """What each running backfill (id) has out in the lane, those left out that have nothing.

    Recordings of a paused or cancelled backfill, or one in `held`, are not on their way to the API.
    """
    figures = (func.count().label("number"), func.max(recordings.c.queued_at).label("newest_at"))
    counted = select(recordings.c.backfill_id, *figures).join_from(recordings, backfills)
    mine = counted.where(recordings.c.lane == lane, IS_OUT, backfills.c.state == RUNNING)
    rows = tx.execute(mine.group_by(recordings.c.backfill_id))
    found = {row.backfill_id: Out(row.number, row.newest_at or 0.0) for row in rows}
    return {one: has for one, has in found.items() if one not in held}


class Waiting(NamedTuple):
    """A backfill with recordings to hand out, and what its canary came to."""

    id: int
    canary_state: str | None


def waiting_backfills(tx: Connection, lane: Lane) -> list[Waiting]:
    """The running backfills with recordings to hand out now in the lane; they run until this write ends."""
    waiting = select(recordings.c.id).where(
        recordings.c.backfill_id == backfills.c.id,
        IS_PENDING,
        recordings.c.lane == lane,
        recordings.c.due_at <= time.time(),
    )
    columns = (backfills.c.id, backfills.c.canary_state)
    running = select(*columns).where(backfills.c.state == RUNNING, waiting.exists()).order_by(backfills.c.id)
    return [Waiting(*row) for row in tx.execute(running.with_for_update(read=True))]


def hand_out(
    tx: Connection,
    lane: Lane,
    backfill_id: int,
    most: int,
    *,
    by: str,
    due_at: float,
    only: Sequence[int] | None = None,
) -> list[Recording]:
    """Moves up to `most` waiting recordings of one backfill and lane to `queued` with a new epoch, oldest first.

    With `only` none but these (ids). Several machines may do so at once: each row is handed out once.
    """
    now = time.time()
    if only is None:
        mine = (recordings.c.lane == lane, recordings.c.backfill_id == backfill_id)
    else:  # with nothing added to the lane, lest SQLite goes through all that is pending in it
        mine = (recordings.c.lane.concat("") == lane, among(tx, recordings.c.id, only))
    ids = select(recordings.c.id).where(IS_PENDING, *mine, recordings.c.due_at <= now)
    ids = ids.order_by(recordings.c.id).limit(most).with_for_update(skip_locked=True, key_share=True)
    chosen = tx.execute(ids).scalars().all()
    if not chosen:
        return []
    tx.execute(
        update(recordings)
        .where(recordings.c.id.in_(chosen))
        .values(
            state=State.QUEUED,
            epoch=recordings.c.epoch + 1,
            queued_at=now,
            changed_at=now,
            due_at=due_at,
            reason=None,
            detail=None,
        )
    )
    history = [
        {"recording_id": chosen_id, "at": now, "from_state": State.PENDING, "to_state": State.QUEUED, "by": by}
        for chosen_id in chosen
    ]
    tx.execute(insert(transitions), history)
    rows = tx.execute(query().where(recordings.c.id.in_(chosen)).order_by(recordings.c.id)).mappings()
    return [from_row(row) for row in rows]


def oldest_unsubmitted(tx: Connection, held: Collection[int] = (), held_back: Collection[int] = ()) -> Recording | None:
    """One recording of a running backfill that waits to be submitted, rather one that is out than one that is not.

    None of a backfill (ids) in `held`, and what is not out of none in `held_back` either.
    """
    for condition, passed_over in ((IS_OUT, {*held}), (IS_PENDING, {*held, *held_back})):
        running = query().where(condition, backfills.c.state == RUNNING, backfills.c.id.not_in(passed_over))
        row = tx.execute(running.order_by(recordings.c.id).limit(1)).mappings().first()
        if row:
            return from_row(row)
    return None


def hand_out_one(tx: Connection, recording: Recording, *, by: str, due_at: float) -> Recording | None:
    """Moves one waiting recording to `queued` with a new epoch; None when another was first."""
    return move(tx, recording, State.QUEUED, by=by, due_at=due_at, new_epoch=True)


def waiting_before(tx: Connection, recording: Recording) -> int:
    """How many recordings of its backfill and lane are handed out before this waiting one."""
    earlier = select(func.count()).where(
        IS_PENDING,
        recordings.c.lane == recording.lane,
        recordings.c.backfill_id == recording.backfill_id,
        recordings.c.id < recording.id,
        recordings.c.due_at <= time.time(),
    )
    return int(tx.execute(earlier).scalar_one())
