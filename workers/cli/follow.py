"""Shows how a backfill, or one recording, gets on until it is at its end or can't get on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from workers.cli.bounds import waits, why_paused
from workers.cli.common import console, duration, errors
from workers.cli.status import details
from workers.ledger import backfills, recordings
from workers.ledger.states import ACTIVE, UNSUBMITTED
from workers.ledger.tables import CANCELLED, PAUSED
from workers.model import Recording, State
from workers.pipeline.bounds import standing
from workers.pipeline.status import Status, status
from workers.pipeline.way_back import WayBack
from workers.resources import Resources

ALL_INDEXED: Final = 0
SOME_FAILED: Final = 3
STUCK: Final = 4
LOOK_SECONDS: Final = 0.5
#: That many outages in a row without a success, and following makes no sense any more.
OUTAGES: Final = 5


def follow(resources: Resources, backfill: str) -> int:
    """Shows a backfill until all its recordings are at their end, then a summary; gives the exit code."""
    try:
        with _progress() as show:
            while True:
                now = status(resources, backfill)
                show(now)
                stuck = _stuck(now)
                if stuck or now.active == 0:
                    break
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        errors.print(f"\nThe work goes on without this command: `retroscribe status {backfill}` shows it.")
        raise
    console.print(details(now))
    if stuck:
        errors.print(stuck)
        return STUCK
    if now.backfill.state == CANCELLED:
        errors.print(f"{backfill} was cancelled: what was paid for is at its end, and the rest was not submitted.")
    return exit_code(now)


def follow_one(resources: Resources, asked: Recording, backfill: str) -> int:
    """Waits for one recording's end, whichever backfill it belongs to, and says what became of it."""
    now, stuck = asked, None
    while now.state in ACTIVE and stuck is None:
        time.sleep(LOOK_SECONDS)
        with resources.ledger.read() as tx:
            now = recordings.get(tx, asked.id) or asked
        stuck = _paused(resources, now) or _stuck(status(resources, backfill))
    ids = f", transcription id {now.transcription_id}" if now.transcription_id else ""
    console.print(f"{now.media_id}: {now.state}{ids}", markup=False)
    if now.detail:
        console.print(now.detail, markup=False)
    if stuck:
        errors.print(stuck)
        return STUCK
    return ALL_INDEXED if now.state in (State.INDEXED, State.REJECTED) else SOME_FAILED


def exit_code(now: Status) -> int:
    """0 when every usable recording is indexed, 3 when some failed or wait for a person."""
    bad = (State.FAILED, State.PARKED)
    both = (now.counts.states, now.counts.shared_by_state)
    return SOME_FAILED if any(counts.get(state, 0) for counts in both for state in bad) else ALL_INDEXED


def paused(resources: Resources, name: str) -> str | None:
    """That the backfill is paused, why, and what has it go on; None while it is not."""
    with resources.ledger.read() as tx:
        backfill = backfills.by_name(tx, name)
        if backfill is None or backfill.state != PAUSED:
            return None
        return f"{name} is paused: {why_paused(backfill, standing(tx, backfill))}."


def _paused(resources: Resources, one: Recording) -> str | None:
    """That the backfill which a recording belongs to now is paused, if that holds it back."""
    if one.backfill_state != PAUSED or one.state not in UNSUBMITTED:
        return None
    with resources.ledger.read() as tx:
        backfill = backfills.get(tx, one.backfill_id)
        return f"It belongs to {one.backfill}, which is paused: {why_paused(backfill, standing(tx, backfill))}."


def _stuck(now: Status) -> str | None:
    """Why following makes no sense, None while work gets on."""
    if now.waits_for_resume and now.backfill.state == PAUSED:
        return f"{now.backfill.name} is paused: {why_paused(now.backfill, now.bounds)}."
    if now.waits_for_resume:
        return (
            f"What is left ({now.counts.shared_paused}) was asked for before by another backfill, which is paused: "
            "`retroscribe status` shows which, and `retroscribe resume NAME` lets it go on."
        )
    if now.halt is not None or (now.way_back == WayBack.NONE and now.unsubmitted):
        return "Nothing is submitted until that is mended; the recordings are stored and go on by themselves then."
    if now.outages >= OUTAGES:
        return (
            f"The API did not answer {now.outages} times in a row: check GENESYS_BASE_URL and the network; the "
            "recordings are stored and go on by themselves once it answers."
        )
    return None


@contextmanager
def _progress() -> Iterator[Callable[[Status], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[line]}"))
    with Progress(*columns, console=errors, transient=True) as progress:
        bar = progress.add_task("indexed", total=None, line="")

        def show(now: Status) -> None:
            progress.update(bar, total=now.counts.total, completed=now.counts.total - now.active, line=_line(now))

        yield show


def _line(now: Status) -> str:
    states = now.counts.states
    funnel = "  ".join(f"{state} {states[state]}" for state in State if states.get(state))
    rate = f"{now.submit.granted_per_second:.1f}/s" if now.submit else "no Redis"
    left = "" if now.eta_seconds is None else f"  about {duration(now.eta_seconds)} left"
    gate = "".join(
        f"  {one.call_class} calls wait {duration(one.gate_seconds)} ({one.gate_reason})"
        for one in now.gates[:1]
        if one.gate_seconds > 1
    )
    why = waits(now.backfill, now.bounds)
    return f"{funnel}  {rate}{left}{gate}{why and f'  {why}'}"
