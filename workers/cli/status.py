"""`retroscribe status`: how backfills stand."""

import json
import time
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workers.cli import bounds
from workers.cli.common import console, duration, existing_resources
from workers.cli.completion import backfill_names
from workers.cli.obstacles import UNPROVED
from workers.ledger.tables import CANCELLED, RUNNING
from workers.limits.limiter import LimiterState
from workers.model import State
from workers.pipeline.failures import Failure
from workers.pipeline.status import Status, status, statuses
from workers.pipeline.way_back import NO_WAY, WayBack
from workers.resources import Resources

WATCH_SECONDS: Final = 1.0

STYLES: Final = {
    State.INDEXED: "green",
    State.REJECTED: "yellow",
    State.FAILED: "red",
    State.PARKED: "magenta",
    State.UNKNOWN: "magenta",
}

#: What to think of before the command that is shown is run.
_HINTS: Final = {State.REJECTED: " once that is mended", State.PARKED: ", or --drop"}

_OVERVIEW = ("backfill", "state", "requested", "indexed", "active", "rejected", "failed", "parked")


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("status")(show_status)


def show_status(
    name: Annotated[
        str | None, typer.Argument(help="A backfill; without it, all of them.", autocompletion=backfill_names)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Shows it anew each second until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON instead of text; with --watch a line of it each second.")
    ] = False,
) -> None:
    """Shows the funnel, the rate against the limit, the time left and what failed why."""
    resources = existing_resources()
    if watch:
        _watch(resources, name, as_json=as_json)
    elif as_json:
        typer.echo(_json(resources, name))
    else:
        console.print(_shown(resources, name))


def _shown(resources: Resources, name: str | None) -> RenderableType:
    return details(status(resources, name)) if name else overview(statuses(resources))


def _json(resources: Resources, name: str | None) -> str:
    found = status(resources, name).as_json() if name else [one.as_json() for one in statuses(resources)]
    return json.dumps(found, ensure_ascii=False)


def _watch(resources: Resources, name: str | None, *, as_json: bool) -> NoReturn:
    """Shows it anew each second, in place or as a line of JSON each time, until it is interrupted."""
    if as_json:
        while True:
            typer.echo(_json(resources, name))
            time.sleep(WATCH_SECONDS)
    with Live(_shown(resources, name), console=console, refresh_per_second=4) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(_shown(resources, name))


def overview(found: list[Status]) -> RenderableType:
    """A line for each backfill."""
    if not found:
        return Text("No backfill yet: `retroscribe run FILE.csv` makes one.")
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for title in (*_OVERVIEW, "duplicates", "intake rejects", "time left"):
        table.add_column(title, justify="left" if title in ("backfill", "state") else "right", overflow="fold")
    for one in found:
        states = one.counts.states
        left = "" if one.eta_seconds is None else duration(one.eta_seconds)
        counts = (states.get(state, 0) for state in (State.REJECTED, State.FAILED, State.PARKED))
        beside = (one.counts.duplicates, one.counts.intake_rejects)
        figures = (one.counts.requested, states.get(State.INDEXED, 0), one.active, *counts, *beside)
        table.add_row(one.backfill.name, _word(one), *map(str, figures), left)
    lines = [bounds.summary(one.backfill, one.bounds) for one in found]
    lines += dict.fromkeys(f"HALTED: {one.halt.detail}" for one in found if one.halt)
    return Group(table, *(Text(line) for line in lines if line))


def details(one: Status) -> RenderableType:
    """The funnel of one backfill and what stands in its way."""
    counts = one.counts
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_column()
    table.add_row("requested", str(counts.requested), "")
    for state in State:
        number = counts.states.get(state, 0)
        if number:
            found = counts.reasons.get(state, {}).items()
            reasons = ", ".join(sorted(f"{reason} {count}" for reason, count in found if reason))
            table.add_row(Text(state, style=STYLES.get(state, "")), str(number), Text(reasons, style="dim"))
    if counts.duplicates:
        forgotten = counts.duplicates_by_state.get(State.FORGOTTEN, 0)
        tombs = f"; {forgotten} forgotten on request, so not transcribed again" if forgotten else ""
        meaning = Text(f"asked for before, not paid again{tombs}", style="dim")
        table.add_row("duplicates", str(counts.duplicates), meaning)
    if counts.intake_rejects:
        table.add_row("intake rejects", str(counts.intake_rejects), Text("lines that can't be used", style="dim"))
    heading = Text.assemble((one.backfill.name, "bold"), f"  {_word(one)}")
    return Group(heading, table, *(Text(line) for line in remarks(one)))


def _word(one: Status) -> str:
    """The backfill's state, `done` when nothing of it is under way."""
    return "done" if one.backfill.state == RUNNING and one.active == 0 else one.backfill.state


def remarks(one: Status) -> list[str]:
    """Rate, time left, and why nothing goes on, as far as there is something to say."""
    lines = []
    speed, submit = one.speed.per_second, one.submit
    if speed is not None:
        lines.append(f"submitted {speed:.2f}/s from first to last")
    if submit is None:
        lines.append("limiter: Redis does not answer, so nothing is submitted")
    else:
        lines.append(
            f"limit {submit.configured:g}/s{_learned(submit)}, now {submit.rate:.2f}/s allowed, "
            f"{submit.granted_per_second:.1f}/s used, {submit.rejected_last_minute} 429s in the last minute"
        )
    lines += [f"{gate.call_class} calls wait {duration(gate.gate_seconds)} ({gate.gate_reason})" for gate in one.gates]
    if one.eta_seconds is not None:
        lines.append(f"about {duration(one.eta_seconds)} until the last one is submitted")
    lines += bounds.remarks(one.backfill, one.bounds)
    lines += _stopped(one)
    if one.halt is not None:
        lines.append(f"HALTED: {one.halt.detail}")
    if one.way_back == WayBack.NONE:
        lines.append(NO_WAY)
    elif one.way_back == WayBack.UNPROVED and one.unsubmitted:
        lines.append(UNPROVED)
    return [*lines, *_for_a_person(one)]


def _stopped(one: Status) -> list[str]:
    """What of it stops or waits because a backfill does not run."""
    name, held = one.backfill.name, one.counts.shared_paused
    lines = []
    if one.backfill.state == CANCELLED and one.unsubmitted:
        lines.append(f"cancelled: {one.unsubmitted} stop within seconds, or with `retroscribe cancel {name}` once more")
    if held:
        lines.append(f"{held} asked for before by a backfill that is paused, and submitted when that one is resumed")
    return lines


def _learned(submit: LimiterState) -> str:
    """What the API was found to let through when that is less than the limit, and what it says of others."""
    learned = submit.learned is not None and submit.learned < submit.ceiling_rate
    others = submit.others is not None and submit.others >= 0.05
    return (f", learned {submit.learned:.1f}/s" if learned else "") + (
        f", others about {submit.others:.1f}/s" if others else ""
    )


def _for_a_person(one: Status) -> list[str]:
    """What somebody should look at or decide about, with the command for it."""
    counts = one.counts
    lines = []
    if unknown := counts.states.get(State.UNKNOWN, 0):
        first = counts.unknown_decided_at or 0
        soon = f"in {duration(first - time.time())}" if first > time.time() else "within seconds"
        lines.append(f"{unknown} unknown: without proof, the policy decides about the first of them {soon}")
    lines += [line for failure in one.failures for line in _failed(failure)]
    if counts.accepted_twice:
        twice = counts.accepted_twice
        lines.append(f"{twice} recording{'' if twice == 1 else 's'} accepted twice, so paid for more than once")
    lines += [
        f"{number} event{'' if number == 1 else 's'} kept as {state}: `retroscribe events --state {state}` lists them"
        for state, number in sorted(one.aside.items())
    ]
    return lines


def _failed(failure: Failure) -> tuple[str, str]:
    """Why how many ended or stand like that, the command that does something about it, and some of them."""
    why = f" ({failure.reason})" if failure.reason else ""
    whose = ", a person decides" if failure.state == State.PARKED else ""
    more = ", ..." if failure.number > len(failure.media_ids) else ""
    return (
        f"{failure.number} {failure.state}{why}{whose}: `{failure.command}`{_HINTS.get(failure.state, '')}",
        f"    {', '.join(failure.media_ids)}{more}",
    )
