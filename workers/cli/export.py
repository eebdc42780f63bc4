"""`retroscribe export`: the transcripts of a backfill, for other programs or to be read."""

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from workers.cli.common import duration, errors, existing_resources
from workers.cli.completion import Name
from workers.cli.past import plain
from workers.errors import InputError
from workers.model import Segment
from workers.pipeline import export as transcripts
from workers.pipeline.export import Exported


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(export)


def export(
    name: Name,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, which is the default.")] = False,
    as_text: Annotated[bool, typer.Option("--text", help="Plain text for people instead.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="This file, readable for you only; it is there once it is complete."),
    ] = None,
) -> None:
    """Writes the transcripts of a backfill from the ledger, at no API cost.

    Every recording that the backfill asked for and that has a transcript comes once; those of other backfills, which it
    shares, come last. The text of a forgotten recording is never among them.
    """
    if as_json and as_text:
        raise InputError("--json and --text exclude each other: give one of them.")
    found = transcripts.export(existing_resources(), name)
    form = _text if as_text else _json
    if output is None:
        number = _write(found, form, sys.stdout)
        sys.stdout.flush()  # so that a reader who has hung up is noticed here
    else:
        with _replacing(output) as file:
            number = _write(found, form, file)
    if number == 0:
        errors.print(f"{name} has no transcripts yet: `retroscribe status {name}` shows how it stands.")
    elif output or not sys.stdout.isatty():
        errors.print(f"{number} transcript{'' if number == 1 else 's'} written{f' to {output}' if output else ''}.")


def _write(found: Iterator[Exported], form: Callable[[Exported], str], file: TextIO) -> int:
    """Writes them as they come, and says meanwhile how many if nobody sees them; gives how many there were."""
    number, unseen = 0, errors.is_terminal and not file.isatty()
    for number, one in enumerate(found, 1):
        file.write(form(one))
        if unseen and number % 100 == 0:
            errors.print(f"{number} written ...", end="\r")
    return number


def _json(one: Exported) -> str:
    return f"{json.dumps(one.as_json(), ensure_ascii=False)}\n"


def _text(one: Exported) -> str:
    """Its ids in a line, then a line for each segment, then an empty one."""
    lasts = one.recording.duration_seconds
    about = (one.transcript.transcription_id, *one.languages, "" if lasts is None else duration(lasts))
    head = f"{one.recording.media_id} ({', '.join(filter(None, about))})"
    return "\n".join([plain(head).plain, *(_spoken(segment) for segment in one.transcript.segments), "", ""])


def _spoken(segment: Segment) -> str:
    start = segment.start_seconds
    when = "" if start is None else f"[{int(start) // 60}:{int(start) % 60:02}] "
    return plain(f"{when}{f'{segment.speaker}: ' if segment.speaker else ''}{segment.text}").plain


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file beside it that takes its place when all went well, and is removed when not; only we may read it."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise InputError(f"--output {path} is no file: name one, or leave --output out and use a pipe.")
    beside = path.with_name(f".export-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
    except OSError as problem:
        raise InputError(
            f"--output {path} can't be written ({problem.strerror}): name a file in a folder with room that you may "
            "write to."
        ) from None
    finally:
        beside.unlink(missing_ok=True)
