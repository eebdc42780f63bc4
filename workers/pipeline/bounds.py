"""What keeps a backfill within its bounds: caps on what it spends, a canary that goes ahead, quiet hours."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from workers.ledger import backfills, canaries, course, handout, recordings, spending
from workers.ledger.backfills import Backfill
from workers.ledger.canaries import Tally
from workers.ledger.spending import Spending
from workers.ledger.tables import PAUSED, RUNNING
from workers.model import Lane, Recording
from workers.pipeline.hours import Hours, hours, may_go
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Reasons that are named when a canary has failed.
SHOWN_REASONS: Final = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """How a backfill stands to its bounds: `tally` while the rest waits for its canary, and once that has failed.

    `opens_at` (Unix seconds) is when it may go again, None when it may now.
    """

    spending: Spending | None = None
    tally: Tally | None = None
    hours: Hours | None = None
    opens_at: float | None = None


def standing(tx: Connection, backfill: Backfill) -> Standing:
    """How the backfill stands to its bounds now."""
    tally = None
    if backfill.canary is not None and backfill.canary_state in (canaries.FLYING, canaries.FAILED):
        waits = backfill.canary_state == canaries.FAILED or canaries.rest_waits(tx, backfill.id)
        tally = canaries.tally(tx, backfill.id, backfill.canary) if waits else None
    open_hours = None if backfill.only_between is None else hours(backfill.only_between)
    now = time.time()
    opens_at = None if open_hours is None or open_hours.is_open(now) else open_hours.opens_at(now)
    return Standing(spending.of(tx, backfill.id), tally, open_hours, opens_at)


def closed(tx: Connection) -> frozenset[int]:
    """The running backfills (ids) in whose quiet hours we are: nothing of them is handed out or submitted now."""
    now = time.time()
    return frozenset(one for one, between in backfills.with_hours(tx).items() if not may_go(between, now))


def oldest_unsubmitted(tx: Connection) -> Recording | None:
    """One recording that waits to be submitted and may go now, rather one that is out than one that is not."""
    held, flying = closed(tx), canaries.flying(tx)
    found = handout.oldest_unsubmitted(tx, held, flying)
    if found is not None:
        return found
    waiting = ((one, lane) for one in flying if one not in held for lane in Lane)
    ready = (canaries.ready(tx, one, lane, time.time()) for one, lane in waiting)
    return next((recordings.get(tx, ids[0]) for ids in ready if ids), None)


def pause_at_cap(tx: Connection, recording: Recording) -> None:
    """Pauses the backfill of a recording that a cap leaves no room for, if that is still so."""
    present = recordings.get(tx, recording.id)
    assert present is not None  # noqa: S101 rows are never deleted
    # Whoever is about to count something has committed then.
    course.hold(tx, present.backfill_id)
    spent = spending.of(tx, present.backfill_id)
    if spent is None:
        return
    spent = replace(spent, next_audio_seconds=present.duration_seconds)
    reached = spent.reached
    if reached is None:
        return
    detail = at_cap(spent)
    if course.change_state(tx, present.backfill_id, (RUNNING,), PAUSED, paused_for=reached, detail=detail):
        spending.wait_for(tx, present.backfill_id, present.duration_seconds)
        log.warning("backfill_paused", backfill=present.backfill, reason=reached, recordings=spent.recordings)


def at_cap(spent: Spending) -> str:
    """That a cap is reached, which it must be, as the beginning of a sentence."""
    if spent.reached == spending.MAX_RECORDINGS:
        return f"its cap of {spent.max_recordings} recording{'' if spent.max_recordings == 1 else 's'} is reached"
    cap, used = (spent.max_audio_seconds or 0.0) / 3600, spent.audio_seconds / 3600
    needs = f", and the next recording lasts {spent.next_audio_seconds:g} s" if spent.next_audio_seconds else ""
    return f"its cap of {cap:g} audio hours is reached ({used:.2f} h are used{needs})"


def raise_cap(name: str, spent: Spending) -> str:
    """What a person does about a cap that is reached."""
    option, least = "--max-recordings", spent.recordings + 1
    if spent.reached == spending.MAX_AUDIO:
        option, least = "--max-audio-hours", math.ceil((spent.audio_seconds + (spent.next_audio_seconds or 1)) / 3600)
    return f"`retroscribe resume {name} {option} N` raises it, to {least} or more, and lifts it with 0"


def decide(resources: Resources) -> None:
    """Chooses canaries and ends them, and lets go on what a cap has room for again, because something was not accepted.

    By what the ledger says alone, so that whoever dies in between, the next one decides the same.
    """
    with resources.ledger.read() as tx:
        undecided = [(one, _fly) for one in canaries.flying(tx) if _is_due(tx, one)]
        undecided += [(one, _go_on) for one in spending.paused(tx) if _has_room(tx, one)]
    for backfill_id, act in undecided:
        _held(resources, backfill_id, act)


def _held(resources: Resources, backfill_id: int, act: Callable[[Connection, Backfill], None]) -> None:
    with resources.ledger.write() as tx:
        course.hold(tx, backfill_id)
        act(tx, backfills.get(tx, backfill_id))


def _is_due(tx: Connection, backfill_id: int) -> bool:
    """Whether more are to be chosen for the canary, or it is over and the rest waits for the verdict."""
    tally = canaries.tally(tx, backfill_id, backfills.get(tx, backfill_id).canary or 0)
    return (tally.members < tally.size or tally.is_over) and canaries.rest_waits(tx, backfill_id)


def _fly(tx: Connection, backfill: Backfill) -> None:
    if (backfill.state, backfill.canary_state) != (RUNNING, canaries.FLYING):
        return
    tally = canaries.tally(tx, backfill.id, backfill.canary or 0)
    if tally.members < tally.size:
        canaries.enrol(tx, backfill.id, tally.size - tally.members)
        return
    if not tally.is_over or not canaries.rest_waits(tx, backfill.id):
        return
    figures = {"backfill": backfill.name, "recordings": tally.members, "failed": tally.failures}
    if tally.is_good:
        canaries.decide(tx, backfill.id, canaries.PASSED)
        log.info("canary_passed", **figures)
        return
    canaries.decide(tx, backfill.id, canaries.FAILED)
    course.change_state(tx, backfill.id, (RUNNING,), PAUSED, paused_for=canaries.CANARY, detail=_failed(tally))
    log.warning("canary_failed", **figures)


def _failed(tally: Tally) -> str:
    """How many failed for which reasons, the most frequent first, as the beginning of a sentence."""
    most = sorted(tally.failed.items(), key=lambda one: -one[1])
    why = [f"{number} {state}" + (f" ({reason})" if reason else "") for (state, reason), number in most]
    more = len(why) - SHOWN_REASONS
    others = f" and {more} more reason{'' if more == 1 else 's'}" if more > 0 else ""
    shown = ", ".join(why[:SHOWN_REASONS])
    return f"{tally.failures} of its first {tally.members} recordings failed, more than 5 %: {shown}{others}"


def _has_room(tx: Connection, backfill_id: int) -> bool:
    spent = spending.of(tx, backfill_id)
    return spent is not None and spent.reached is None


def _go_on(tx: Connection, backfill: Backfill) -> None:
    if backfill.paused_for in (spending.MAX_RECORDINGS, spending.MAX_AUDIO) and _has_room(tx, backfill.id):
        let_run(tx, backfill)
        log.info("backfill_goes_on", backfill=backfill.name)


def let_run(tx: Connection, backfill: Backfill) -> bool:
    """Has a paused backfill run, and what it holds back go on at once; False when it is not paused."""
    changed = course.change_state(tx, backfill.id, (PAUSED,), RUNNING)
    spending.wait_for(tx, backfill.id, None)
    course.wake_validated(tx, backfill.id)
    return changed


def bounds_json(backfill: Backfill, bounds: Standing) -> dict[str, Any]:
    """The stable form of how a backfill stands to its bounds, and of what paused it."""
    spent, tally, opens_at = bounds.spending, bounds.tally, bounds.opens_at
    canary = None if backfill.canary is None else {"size": backfill.canary, "state": backfill.canary_state}
    if canary is not None:
        canary |= {"ended": tally.ended if tally else None, "failed": tally.failures if tally else None}
    return {
        "paused_for": backfill.paused_for,
        "paused_detail": backfill.paused_detail,
        "caps": None if spent is None else _caps_json(spent),
        "canary": canary,
        "only_between": backfill.only_between,
        "opens_at": None if opens_at is None else datetime.fromtimestamp(opens_at, UTC).isoformat(),
    }


def _caps_json(spent: Spending) -> dict[str, Any]:
    cap = spent.max_audio_seconds
    return {
        "max_recordings": spent.max_recordings,
        "recordings": spent.recordings,
        "max_audio_hours": None if cap is None else cap / 3600,
        "audio_hours": round(spent.audio_seconds / 3600, 4),
    }
