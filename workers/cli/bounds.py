"""What the command says about a backfill's bounds: why it waits, until when, and how a person has it go on."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from workers.errors import InputError
from workers.ledger.backfills import Backfill
from workers.ledger.canaries import CANARY, Tally
from workers.ledger.spending import Spending
from workers.ledger.tables import PAUSED, RUNNING
from workers.model import Bounds
from workers.pipeline.bounds import Standing, raise_cap
from workers.pipeline.hours import Hours, read_hours

#: More than anybody has, and less than a database can't count.
MOST_RECORDINGS: Final = 1_000_000_000


def hours_from(only_between: str | None, time_zone: str | None) -> Hours | None:
    """The hours that the options name, if they do; raises InputError for what is no span of time or no zone."""
    if time_zone is not None and only_between is None:
        raise InputError(f"--time-zone {time_zone} says whose clock --only-between means: name that as well.")
    return None if only_between is None else read_hours(only_between, time_zone)


def why_paused(backfill: Backfill, bounds: Standing) -> str:
    """Why a paused backfill is paused, and what has it go on."""
    name, detail = backfill.name, backfill.paused_detail
    if backfill.paused_for is None:
        return f"nothing of it is submitted until `retroscribe resume {name}`"
    if backfill.paused_for == CANARY:
        return f"{detail}; `retroscribe resume {name}` has the rest go on in spite of it"
    if bounds.spending is None or bounds.spending.reached is None:
        return f"{detail}, but something was not accepted: it goes on within seconds"
    return f"{detail}; {raise_cap(name, bounds.spending)}"


def remarks(backfill: Backfill, bounds: Standing) -> Iterator[str]:
    """How a backfill stands to its bounds, a line for each."""
    if backfill.state == PAUSED:
        yield f"paused: {why_paused(backfill, bounds)}"
    if bounds.spending is not None and (caps := _caps(bounds.spending)):
        yield f"caps: {caps} paid for or perhaps paid for"
    if bounds.tally is not None and backfill.paused_for != CANARY:
        yield f"canary: {flight(bounds.tally)}"
    if bounds.hours is not None:
        waits = f": waits until {opening(bounds)}" if bounds.opens_at is not None and backfill.state == RUNNING else ""
        yield f"goes only between {bounds.hours}{waits}"


def flight(tally: Tally) -> str:
    """How far a canary is, and what the rest waits for."""
    waits = ", ".join(f"{number} {state}" for state, number in sorted(tally.under_way.items()))
    more = tally.size - tally.members
    missing = f"{more} to be chosen" if more > 0 else ""
    for_what = ", ".join(filter(None, (waits, missing))) or "the verdict, within seconds"
    return f"{tally.ended} of the first {tally.size} have ended, {tally.failures} failed; the rest waits for {for_what}"


def opening(bounds: Standing) -> str:
    """The time at which a backfill may go again, by the clock of its zone."""
    assert bounds.opens_at is not None and bounds.hours is not None  # noqa: S101, PT018 it waits
    zone = bounds.hours.zone
    return f"{datetime.fromtimestamp(bounds.opens_at, zone):%H:%M} {zone.key}"


def waits(backfill: Backfill, bounds: Standing) -> str:
    """Why a running backfill does not get on now, in few words; empty when it may."""
    if backfill.state != RUNNING:
        return ""
    if bounds.opens_at is not None:
        return f"waits until {opening(bounds)}"
    if bounds.tally is not None:
        return f"canary: {bounds.tally.ended} of {bounds.tally.size} ended, {bounds.tally.failures} failed"
    return ""


def summary(backfill: Backfill, bounds: Standing) -> str:
    """Why a backfill does not get on by itself or now, beside its name; empty when it may, or a person paused it."""
    why = f"paused, for {backfill.paused_detail}" if backfill.paused_for else waits(backfill, bounds)
    return f"{backfill.name}: {why}" if why else ""


def promise(bounds: Bounds) -> str:
    """What a new backfill keeps within, as a sentence; empty without bounds."""
    hours = None if bounds.max_audio_seconds is None else f"{bounds.max_audio_seconds / 3600:g} audio hours"
    caps = [f"{bounds.max_recordings} recordings" if bounds.max_recordings is not None else None, hours]
    parts = [
        f"at most {' and '.join(filter(None, caps))} are submitted" if any(caps) else None,
        f"the first {bounds.canary} go ahead of the rest" if bounds.canary is not None else None,
        f"it goes only between {bounds.only_between}" if bounds.only_between is not None else None,
    ]
    return ", ".join(filter(None, parts))


def _caps(spent: Spending) -> str:
    figures = []
    if spent.max_recordings is not None:
        figures.append(f"{spent.recordings} of {spent.max_recordings} recordings")
    if spent.max_audio_seconds is not None:
        figures.append(f"{spent.audio_seconds / 3600:.2f} of {spent.max_audio_seconds / 3600:g} audio hours")
    return " and ".join(figures)
