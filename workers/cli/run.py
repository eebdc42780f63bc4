"""`retroscribe run`: takes a list of recordings in and follows it to its end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from config.settings import Settings, load_settings
from workers.cli.common import console, duration, errors, missing_consumers, new_resources
from workers.cli.status import details
from workers.errors import InputError, PartUnreachable
from workers.intake.entries import Defaults, check_backfill_name
from workers.intake.manifest import RejectedFile, Row, backfill_name_from, read_manifest
from workers.ledger import backfills, recordings
from workers.ledger.states import ACTIVE, UNSUBMITTED
from workers.ledger.tables import CANCELLED, PAUSED
from workers.model import Lane, Recording, State
from workers.pipeline.status import Status, status
from workers.pipeline.way_back import WayBack
from workers.resources import Resources

ALL_INDEXED: Final = 0
SOME_FAILED: Final = 3
STUCK: Final = 4
LOOK_SECONDS: Final = 0.5
SHOWN_REJECTS: Final = 5
#: That many outages in a row without a success, and following makes no sense any more.
OUTAGES: Final = 5
SINGLE: Final = "single"
_PAUSED: Final = "{name} is paused: nothing of it is submitted until `retroscribe resume {name}`."
#: Who moves a recording, for its history.
BY: Final = "retroscribe run"


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(run)


def run(
    file: Annotated[str | None, typer.Argument(help="CSV or JSON lines, also gzipped; - for standard input.")] = None,
    name: Annotated[str | None, typer.Option(help="The backfill's name; default: the file's stem.")] = None,
    media_id: Annotated[str | None, typer.Option(help="One recording instead of a file.")] = None,
    languages: Annotated[str | None, typer.Option(help="BCP 47 tags, comma-separated, for rows without.")] = None,
    redaction_policy: Annotated[str | None, typer.Option(help="Redaction policy id, for rows without.")] = None,
    lane: Annotated[Lane | None, typer.Option(help="live goes before backfill.")] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="Stores the recordings and returns.")] = False,
) -> int:
    """Takes recordings in and shows how they get on until all are done; Ctrl-C leaves the work running.

    Exit codes: 0 all usable ones are indexed, 3 some failed or parked, 4 nothing works on them or they are paused, 2
    wrong input.
    """
    if (file is None) == (media_id is None):
        raise InputError("Name a file (or - for standard input), or one recording with --media-id.")
    # Whatever is wrong with the arguments is said before a home is made for them.
    settings = load_settings()
    tags = tuple(tag.strip() for tag in languages.split(",")) if languages else settings.languages
    defaults = Defaults(tags, redaction_policy)
    asked: Recording | None = None
    if file is None:
        backfill = check_backfill_name(name or SINGLE)
        resources = new_resources()
        from workers.pipeline.enqueue import request_transcription

        asked = request_transcription(
            resources, str(media_id), defaults=defaults, backfill=backfill, lane=lane or Lane.LIVE, by=BY
        )
    else:
        backfill = check_backfill_name(name or backfill_name_from(file))
        rows = _some_rows(file, defaults)
        resources = new_resources()
        _take_file(resources, rows, backfill, defaults, lane or Lane.BACKFILL)
    if _nobody_works(resources.settings):
        return STUCK
    if no_follow:
        _say_if_paused(resources, backfill)
        return ALL_INDEXED
    return follow(resources, backfill) if asked is None else _follow_one(resources, asked, backfill)


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


def _follow_one(resources: Resources, asked: Recording, backfill: str) -> int:
    """Waits for one recording's end, whichever backfill it belongs to, and says what became of it."""
    now, stuck = asked, None
    while now.state in ACTIVE and stuck is None:
        time.sleep(LOOK_SECONDS)
        with resources.ledger.read() as tx:
            now = recordings.get(tx, asked.id) or asked
        stuck = _paused(now) or _stuck(status(resources, backfill))
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


def _nobody_works(settings: Settings) -> bool:
    """Says why nobody works on the recordings, if nobody does."""
    try:
        missing = missing_consumers(settings)
    except PartUnreachable as problem:
        errors.print(f"{problem} The recordings are stored and go on by themselves then.")
        return True
    if missing:
        errors.print(
            f"No worker takes from {', '.join(sorted(missing))}: start `retroscribe up`, or workers for these "
            "queues. The recordings are stored and go on by themselves then."
        )
    return bool(missing)


def _say_if_paused(resources: Resources, name: str) -> None:
    with resources.ledger.read() as tx:
        backfill = backfills.by_name(tx, name)
    if backfill is not None and backfill.state == PAUSED:
        errors.print(_PAUSED.format(name=name))


def _some_rows(file: str, defaults: Defaults) -> Iterator[Row]:
    """The file's rows; raises InputError when there is none, before anything is made for them."""
    rows = read_manifest(file, defaults)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{file} names no recordings: write one a line below its header.")
    return chain([first], rows)


def _take_file(resources: Resources, rows: Iterator[Row], backfill: str, defaults: Defaults, lane: Lane) -> None:
    from workers.pipeline.batches import Taken
    from workers.pipeline.enqueue import take_rows

    taken = Taken()
    with RejectedFile(backfill) as rejected:
        replaced = rejected.path.exists()
        for taken in take_rows(resources, backfill, _reported(rows, rejected), defaults=defaults, lane=lane, by=BY):
            if errors.is_terminal:
                errors.print(f"{taken.accepted + taken.repeated} taken in ...", end="\r")
    again = f", {taken.repeated} known from an earlier run of this list" if taken.repeated else ""
    errors.print(
        f"{backfill}: {taken.accepted} new, {taken.duplicates} asked for before{again}, {taken.rejected} unusable"
    )
    if rejected.rows:
        kept = " (the file of that name is kept as .bak)" if replaced else ""
        errors.print(f"The unusable lines are in {rejected.path}{kept} with their reasons: correct and send it again.")


def _reported(rows: Iterator[Row], rejected: RejectedFile) -> Iterator[Row]:
    """The rows, with the unusable ones shown and kept for correction."""
    for row in rows:
        if row.reason is not None:
            rejected.add(row)
            if rejected.rows <= SHOWN_REJECTS:
                errors.print(f"line {row.line}: {row.reason}")
        yield row


def _paused(one: Recording) -> str | None:
    """That the backfill which a recording belongs to now is paused, if that holds it back."""
    if one.backfill_state != PAUSED or one.state not in UNSUBMITTED:
        return None
    return (
        f"It belongs to {one.backfill}, which is paused: nothing of it is submitted until "
        f"`retroscribe resume {one.backfill}`."
    )


def _stuck(now: Status) -> str | None:
    """Why following makes no sense, None while work gets on."""
    if now.waits_for_resume and now.backfill.state == PAUSED:
        return _PAUSED.format(name=now.backfill.name)
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
    return f"{funnel}  {rate}{left}{gate}"
