"""`retroscribe explain` and `retroscribe events`: what became of a recording and why, and what came in."""

import json
import logging
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from config.logging import configure_logging
from config.settings import Settings
from workers.cli.common import console, duration, existing_resources, missing_consumers, person
from workers.cli.obstacles import local, needed_queues
from workers.cli.outlook import Outlook, outlook
from workers.cli.past import past, plain
from workers.cli.status import STYLES
from workers.errors import InputError, PartUnreachable
from workers.ledger import events as kept
from workers.pipeline.explain import Explained, event_json, inbox, utc
from workers.pipeline.explain import explain as look_up

#: In the place of a media id.
REPLAY: Final = "replay"


class EventState(StrEnum):
    """What became of an event."""

    NEW = kept.NEW
    APPLIED = kept.APPLIED
    IGNORED = kept.IGNORED
    REFUSED = kept.REFUSED
    UNMATCHED = kept.UNMATCHED


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(explain)
    app.command("events")(list_events)


def explain(
    recording: Annotated[str, typer.Argument(metavar="MEDIA_ID|REF", help="The recording.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Shows all that happened to a recording, when, by whom and why, and what happens next.

    A media id may have several recordings, such as one for each language it was asked for in: all are shown.
    """
    resources = existing_resources()
    found = look_up(resources, recording)
    told = [(one, outlook(one, why)) for one, why in zip(found, unattended(resources.settings, found), strict=True)]
    if as_json:
        typer.echo(json.dumps({"recordings": [as_object(*pair) for pair in told]}, ensure_ascii=False))
        return
    for number, (one, prospects) in enumerate(told):
        if number:
            console.print()
        show(one, prospects)


def list_events(
    recording: Annotated[
        str | None,
        typer.Argument(metavar="MEDIA_ID|REF|replay", help="Only this recording's events.", show_default=False),
    ] = None,
    event: Annotated[
        int | None, typer.Argument(metavar="ID", help="The event to apply again, after `replay`.", show_default=False)
    ] = None,
    state: Annotated[EventState | None, typer.Option(help="Only events that this became of.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of text.")] = False,
) -> None:
    """Lists the newest events of the webhook inbox, and what became of them.

    `retroscribe events replay ID` applies one again that was refused, ignored or unmatched, and shows what comes of it.
    """
    if (recording == REPLAY) != (event is not None):
        raise InputError("Give `retroscribe events replay ID` the id of one event: `retroscribe events` lists them.")
    resources = existing_resources()
    if event is None:
        found = inbox(resources, state=state, media_id_or_ref=recording, most=limit)
    else:
        from workers.pipeline.replay import replay

        settings = resources.settings
        # An event may say that a transcription failed, which ends its recording with an audit record.
        configure_logging(settings.log_format, level=logging.ERROR, audit=settings.home / "audit.jsonl")
        found = [replay(resources, event, by=person("events replay"))]
    if as_json:
        typer.echo(json.dumps([event_json(one) for one in found], ensure_ascii=False))
        return
    if not found:
        console.print("No such event." if state or recording else "No event has come yet.")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("id", "received", "type", "state", "media id", "transcription id", "why"):
        whole = title in ("id", "received", "state")
        table.add_column(title, justify="right" if title == "id" else "left", overflow="fold", no_wrap=whole)
    for one in found:
        state_shown = Text(one.state, style="" if one.state in (kept.NEW, kept.APPLIED) else "yellow")
        texts = (one.media_id or "", one.transcription_id, one.detail or "")
        table.add_row(str(one.id), local(one.received_at), plain(one.type), state_shown, *map(plain, texts))
    console.print(table)


def as_object(one: Explained, prospects: Outlook) -> dict[str, Any]:
    """The stable form of an entry of `retroscribe explain --json`."""
    due_at = one.recording.due_at
    coming = {
        "sentence": prospects.sentence,
        "at": None if due_at is None else utc(max(due_at, one.around.now)),
        "obstacles": list(prospects.obstacles),
        "commands": [choice.command for choice in prospects.choices],
    }
    return {**one.as_json(), "next": coming}


def show(one: Explained, prospects: Outlook) -> None:
    """Prints a recording's head, its past and its prospects for a person."""
    recording = one.recording
    style = STYLES.get(recording.state, "")
    console.print(Text.assemble((recording.media_id, "bold"), "  ", (recording.state, f"bold {style}".strip())))
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    for title, text in _head(one):
        head.add_row(title, plain(text))
    console.print(head)
    console.print()
    history = Table.grid(padding=(0, 2))
    history.add_column(no_wrap=True)
    history.add_column(no_wrap=True, justify="right", style="dim")
    history.add_column(overflow="fold")
    for moment, what in past(one):
        history.add_row(local(moment), f"{duration(max(0, one.around.now - moment))} ago", what)
    console.print(history)
    console.print()
    console.print("What happens next", style="bold")
    for obstacle in prospects.obstacles:
        console.print(Text(obstacle, style="yellow"))
    console.print(Text(prospects.sentence))
    for choice in prospects.choices:
        console.print(Text.assemble("  ", choice.command), soft_wrap=True)
        console.print(Text(f"      {choice.does}", style="dim"), soft_wrap=True)


def _head(one: Explained) -> list[tuple[str, str]]:
    recording, request = one.recording, one.recording.request
    policy = f", redaction policy {request.redaction_policy_id}" if request.redaction_policy_id else ""
    speakers = "speakers told apart" if request.speaker_identification else "speakers not told apart"
    figures = (recording.codec, recording.format)
    lasts = "" if recording.duration_seconds is None else f"{recording.duration_seconds:g} s"
    lines = [
        ("ref", recording.ref),
        ("backfill", f"{recording.backfill} ({one.backfill_state}), lane {recording.lane}"),
        ("request", f"{', '.join(request.languages)}, {speakers}{policy}"),
        ("media", ", ".join(filter(None, [" in ".join(filter(None, figures)), lasts]))),
        ("transcription", recording.transcription_id or ""),
        ("accepted twice", ", ".join(one.doubles) and f"also as {', '.join(one.doubles)}: paid for more than once"),
        ("reason", recording.reason or ""),
        ("detail", recording.detail or ""),
    ]
    return [(title, text) for title, text in lines if text]


def unattended(settings: Settings, found: list[Explained]) -> list[str | None]:
    """For each recording, why no worker does its next step, None when one can or none is to."""
    waited_for = [frozenset(needed_queues(one)) for one in found]
    if not any(waited_for):
        return [None] * len(found)
    try:
        missing = missing_consumers(settings)
    except PartUnreachable as problem:
        return [str(problem) if needed else None for needed in waited_for]
    return [
        f"No worker takes from {', '.join(sorted(needed & missing))}: start `retroscribe up`, or workers for that."
        if needed & missing
        else None
        for needed in waited_for
    ]
