"""`retroscribe run`: takes a list of recordings in and follows it to its end."""

import math
from collections.abc import Iterator
from typing import Annotated, Final

import typer

from config.settings import Settings, load_settings
from workers.cli.bounds import MOST_RECORDINGS, hours_from, promise
from workers.cli.common import errors, missing_consumers, new_resources
from workers.cli.follow import ALL_INDEXED, STUCK, follow, follow_one, paused
from workers.cli.lists import defaults_from, some_rows
from workers.errors import InputError, PartUnreachable
from workers.intake.entries import Defaults, check_backfill_name
from workers.intake.manifest import RejectedFile, Row, backfill_name_from
from workers.model import Bounds, Lane, Recording
from workers.resources import Resources

SHOWN_REJECTS: Final = 5
SINGLE: Final = "single"
#: What became of a canary is looked up in the ledger each second.
MOST_CANARIES: Final = 1000
_BOUNDS: Final = "Bounds of the backfill"
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
    max_recordings: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_RECORDINGS, metavar="N", help="Submits at most so many.", rich_help_panel=_BOUNDS),
    ] = None,
    max_audio_hours: Annotated[
        float | None, typer.Option(metavar="H", help="Submits at most so much audio.", rich_help_panel=_BOUNDS)
    ] = None,
    canary: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_CANARIES,
            metavar="N",
            help="So many go ahead; the rest follows if at most 5 % of them fail.",
            rich_help_panel=_BOUNDS,
        ),
    ] = None,
    only_between: Annotated[
        str | None,
        typer.Option(metavar="HH:MM-HH:MM", help="Submits at these hours only.", rich_help_panel=_BOUNDS),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="Whose clock that is, such as Europe/Madrid; default: this machine's, else UTC.",
            rich_help_panel=_BOUNDS,
        ),
    ] = None,
) -> int:
    """Takes recordings in and shows how they get on until all are done; Ctrl-C leaves the work running.

    Bounds stay with the backfill, so more recordings for the same name need none. At a cap it is paused, and after a
    canary of which too many failed; `retroscribe resume` lets it go on.

    Exit codes: 0 all usable ones are indexed, 3 some failed or parked, 4 nothing works on them or they are paused, 2
    wrong input.
    """
    if (file is None) == (media_id is None):
        raise InputError("Name a file (or - for standard input), or one recording with --media-id.")
    # Whatever is wrong with the arguments is said before a home is made for them.
    settings = load_settings()
    defaults = defaults_from(settings, languages, redaction_policy)
    bounds = _bounds(max_recordings, max_audio_hours, canary, only_between, time_zone)
    if file is None and bounds != Bounds():
        raise InputError("Caps, a canary and hours are for a list: name a file (or - for standard input).")
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
        rows = some_rows(file, defaults)
        resources = new_resources()
        _take_file(resources, rows, backfill, defaults, lane or Lane.BACKFILL, bounds)
    if _nobody_works(resources.settings):
        return STUCK
    if no_follow:
        if why := paused(resources, backfill):
            errors.print(why)
        return ALL_INDEXED
    return follow(resources, backfill) if asked is None else follow_one(resources, asked, backfill)


def _bounds(
    max_recordings: int | None,
    max_audio_hours: float | None,
    canary: int | None,
    only_between: str | None,
    time_zone: str | None,
) -> Bounds:
    """What the options say; raises InputError for what makes no sense."""
    if max_audio_hours is not None and not 0 < max_audio_hours < math.inf:
        raise InputError(f"--max-audio-hours {max_audio_hours:g} is no number above 0: name hours of audio.")
    hours = hours_from(only_between, time_zone)
    seconds = None if max_audio_hours is None else max_audio_hours * 3600
    return Bounds(max_recordings, seconds, canary, None if hours is None else str(hours))


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


def _take_file(
    resources: Resources, rows: Iterator[Row], backfill: str, defaults: Defaults, lane: Lane, bounds: Bounds
) -> None:
    from workers.pipeline.batches import Taken
    from workers.pipeline.enqueue import take_rows

    taken = Taken()
    try:
        with RejectedFile(backfill) as rejected:
            replaced = rejected.path.exists()
            entries = _reported(rows, rejected)
            for taken in take_rows(resources, backfill, entries, defaults=defaults, lane=lane, bounds=bounds, by=BY):
                if errors.is_terminal:
                    errors.print(f"{taken.accepted + taken.repeated} taken in ...", end="\r")
    except InputError:
        if taken.accepted:
            errors.print(f"{backfill}: {taken.accepted} new were taken in before that, and are transcribed.")
        raise
    again = f", {taken.repeated} known from an earlier run of this list" if taken.repeated else ""
    errors.print(
        f"{backfill}: {taken.accepted} new, {taken.duplicates} asked for before{again}, {taken.rejected} unusable"
    )
    if promised := promise(bounds):
        errors.print(f"{backfill}: {promised}.")
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
