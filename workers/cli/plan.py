"""`retroscribe plan`: what sending a list would come to, before anything is sent."""

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from config.settings import load_settings
from workers.cli.bounds import hours_from
from workers.cli.common import any_resources, console, errors, ledger_if_any
from workers.cli.lists import defaults_from, some_rows
from workers.cli.plan_text import shown
from workers.errors import InputError
from workers.intake.entries import Defaults, check_backfill_name
from workers.intake.manifest import RejectedFile, Row, backfill_name_from
from workers.model import Lane
from workers.pipeline import plan as plans
from workers.pipeline.forecast import Plan
from workers.pipeline.hours import Hours
from workers.pipeline.hours import hours as hours_in
from workers.pipeline.pace import pace
from workers.pipeline.probing import Probed, probe
from workers.resources import Resources

PLANNED: Final = 0
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130
MOST_PROBES: Final = 10_000


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("plan")(plan)


def plan(
    file: Annotated[str, typer.Argument(help="CSV or JSON lines, also gzipped; - for standard input.")],
    name: Annotated[str | None, typer.Option(help="The backfill's name; default: the file's stem.")] = None,
    languages: Annotated[str | None, typer.Option(help="BCP 47 tags, comma-separated, for rows without.")] = None,
    redaction_policy: Annotated[str | None, typer.Option(help="Redaction policy id, for rows without.")] = None,
    lane: Annotated[Lane, typer.Option(help="live goes before backfill.")] = Lane.BACKFILL,
    sample: Annotated[
        int,
        typer.Option("--probe", min=0, max=MOST_PROBES, help="Looks so many of the new ones up, for length and codec."),
    ] = 0,
    price: Annotated[
        float | None, typer.Option("--price-per-minute", help="Of audio; the cost is in the same currency.")
    ] = None,
    only_between: Annotated[
        str | None, typer.Option(metavar="HH:MM-HH:MM", help="As run would be given it; default: the backfill's own.")
    ] = None,
    time_zone: Annotated[str | None, typer.Option(metavar="ZONE", help="Whose clock that is.")] = None,
    rejected: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Writes the unusable lines there, as run would.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> int:
    """Shows what `run` with the same options would come to: sends nothing, and writes nothing to the ledger.

    Exit codes: 0 there is a plan, 2 wrong input, 4 there is one, but the sample could not be looked up to its end.
    """
    settings = load_settings()
    defaults = defaults_from(settings, languages, redaction_policy)
    backfill = check_backfill_name(name or backfill_name_from(file))
    _check(file, price, rejected)
    if sample:
        settings.genesys.credentials()
    hours = hours_from(only_between, time_zone)
    wanted = _Wanted(backfill, defaults, lane, sample, price, rejected, hours)
    made = _made(any_resources(), some_rows(file, defaults), wanted)
    if as_json:
        typer.echo(json.dumps(made.as_json(), ensure_ascii=False))
    else:
        console.print(shown(made))
    if made.probed is not None and made.probed.interrupted:
        return INTERRUPTED
    return UNREACHABLE if made.probed is not None and made.probed.problem else PLANNED


def _check(file: str, price: float | None, rejected: Path | None) -> None:
    if price is not None and not 0 <= price < float("inf"):
        raise InputError(f"--price-per-minute is {price:g}, but a price is 0 or more: give it as 0.024.")
    if rejected is not None and rejected.exists() and file != "-" and rejected.samefile(file):
        raise InputError(f"--rejected {rejected} is the list itself: name another file.")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was asked for on the command line."""

    backfill: str
    defaults: Defaults
    lane: Lane
    sample: int
    price: float | None
    rejected: Path | None
    hours: Hours | None


def _made(resources: Resources, rows: Iterator[Row], wanted: _Wanted) -> Plan:
    ledger = ledger_if_any(resources)
    target = plans.target(ledger, wanted.backfill, wanted.defaults)
    sample = plans.Sample(wanted.sample)
    with RejectedFile(wanted.backfill, path=wanted.rejected) if wanted.rejected else nullcontext() as kept:
        for found in plans.look_through(ledger, target, _kept(rows, kept), sample):
            if errors.is_terminal:
                errors.print(f"{found.entries} looked at ...", end="\r")
    own = target.only_between if target else None
    chosen = sample.chosen()
    probed = _probed(resources, chosen) if chosen else None
    return Plan(
        backfill=wanted.backfill,
        found=found,
        pace=pace(resources, ledger, target, wanted.lane),
        probed=probed,
        longest=resources.settings.max_duration_seconds,
        price=wanted.price,
        has_ledger=ledger is not None,
        made_at=time.time(),
        hours=wanted.hours or (hours_in(own) if own else None),
    )


def _kept(rows: Iterator[Row], rejected: RejectedFile | None) -> Iterator[Row]:
    """The rows, with the unusable ones kept for correction if somebody wants that."""
    for row in rows:
        if row.reason is not None and rejected is not None:
            rejected.add(row)
        yield row


def _probed(resources: Resources, chosen: list[str]) -> Probed:
    settings = resources.settings
    if settings.embedded_redis and not settings.socket_path.exists():
        nobody = f"no Retroscribe runs with the home {settings.home}, whose limiter gives leave to call"
        return Probed(len(chosen), problem=f"{nobody}: start `retroscribe up` in this folder first.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("Ctrl-C: enough"))
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("looked up", total=len(chosen))
        return probe(resources, chosen, lambda so_far: progress.update(bar, completed=so_far.answered))
