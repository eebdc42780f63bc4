"""`retroscribe show`: what was said in one recording."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import typer
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from workers.cli.common import console, duration, errors, existing_resources
from workers.cli.obstacles import local
from workers.cli.past import plain
from workers.errors import InputError
from workers.ledger.states import NEEDS_PERSON, TERMINAL
from workers.model import Recording, Segment, State
from workers.pipeline.export import Exported
from workers.pipeline.show import show as look_up
from workers.resources import Resources

OK: Final = 0
NO_TRANSCRIPT: Final = 3
#: Of the moment and the speaker.
_JUSTIFY: Final[Sequence[JustifyMethod]] = ("right", "left")


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(show)


def show(
    recording: Annotated[str, typer.Argument(metavar="MEDIA_ID|REF", help="The recording.")],
    as_text: Annotated[bool, typer.Option("--text", help="Only what was said, a line for each segment.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> int:
    """Shows the transcript of a recording from the ledger, at no API cost.

    A media id may have several recordings, such as one for each language it was asked for in: the newest transcript is
    shown, and the others are named. Exit codes: 0 shown; 2 wrong use, or no such recording; 3 it has no transcript.
    """
    if as_json and as_text:
        raise InputError("--json and --text exclude each other: give one of them.")
    resources = existing_resources()
    found = look_up(resources, recording)
    if found.transcript is None:
        _say_why_not(resources, recording)
        return NO_TRANSCRIPT
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False))
    elif as_text:
        sys.stdout.writelines(f"{plain(one.text).plain}\n" for one in found.transcript.transcript.segments)
        sys.stdout.flush()  # so that a reader who has hung up is noticed here
    else:
        _show(found.transcript, found.others)
    return OK


def _show(shown: Exported, others: Sequence[Recording]) -> None:
    console.print(Text.assemble((plain(shown.recording.media_id).plain, "bold")))
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    for title, text in _head(shown):
        head.add_row(title, plain(text))
    console.print(head)
    console.print()
    segments = shown.transcript.segments
    if not segments:
        console.print("Nothing was said in it.")
    for row in _rows(segments):
        console.print(row)
    if others:
        console.print()
    for other in others:
        console.print(plain(f"Also {_named(other)}: `retroscribe show {other.ref}`"), soft_wrap=True)


def _head(shown: Exported) -> list[tuple[str, str]]:
    recording, transcript = shown.recording, shown.transcript
    confidence, lasts = transcript.average_confidence, recording.duration_seconds
    redacted = "" if transcript.redacted is None else ("yes" if transcript.redacted else "no")
    completed = transcript.completed_at
    lines = [
        ("ref", recording.ref),
        ("backfill", recording.backfill),
        ("transcribed", "" if completed is None else local(completed)),
        ("languages", ", ".join(shown.languages)),
        ("confidence", "" if confidence is None else f"{confidence:.2f}"),
        ("duration", "" if lasts is None else duration(lasts)),
        ("redacted", redacted),
    ]
    return [(title, text) for title, text in lines if text]


def _rows(segments: Sequence[Segment]) -> Iterator[Table]:
    """A row for each segment, when and by whom before it; what is wrapped goes on below its beginning."""
    heads = [(_position(one), plain(f"{one.speaker}:" if one.speaker else "")) for one in segments]
    widths = [max(head[column].cell_len for head in heads) for column in (0, 1)] if heads else []
    # Each is a table of its own, so that the first is there at once however many there are.
    for head, segment in zip(heads, segments, strict=True):
        row = Table.grid(padding=(0, 1))
        for width, justify in zip(widths, _JUSTIFY, strict=True):
            if width:
                row.add_column(style="dim", no_wrap=True, width=width, justify=justify)
        row.add_column(overflow="fold")
        row.add_row(*(text for text, width in zip(head, widths, strict=True) if width), plain(segment.text))
        yield row


def _position(segment: Segment) -> Text:
    start = segment.start_seconds
    return Text("" if start is None else f"{int(start) // 60}:{int(start) % 60:02}")


def _named(recording: Recording) -> str:
    return f"{recording.state} in {', '.join(recording.request.languages)}, asked for by {recording.backfill}"


def _say_why_not(resources: Resources, target: str) -> None:
    """For each recording of that name, why it has no transcript, and what happens next."""
    from workers.cli.explain import unattended
    from workers.cli.outlook import outlook
    from workers.pipeline.explain import explain

    found = explain(resources, target)
    for one, nobody in zip(found, unattended(resources.settings, found), strict=True):
        recording = one.recording
        coming = outlook(one, nobody)
        yet = "" if recording.state in TERMINAL | NEEDS_PERSON else " yet"
        why = f" ({recording.reason})" if recording.reason and recording.state != State.FORGOTTEN else ""
        sentences = (f"{recording.media_id} has no transcript{yet}: it is {recording.state}{why}.", *coming.obstacles)
        errors.print(plain(" ".join((*sentences, coming.sentence))))
    more = "" if len(found) == 1 else "the refs and "
    errors.print(plain(f"`retroscribe explain {target}` shows {more}all that happened."))
