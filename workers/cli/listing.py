"""`retroscribe list`: what became of each entry of a backfill, a line each."""

import json
import sys
from collections.abc import Iterable
from typing import Annotated, Final

import typer

from workers.cli.common import errors, existing_resources
from workers.cli.completion import Name
from workers.cli.obstacles import local
from workers.cli.past import plain
from workers.errors import InputError
from workers.ledger.listing import Entry, Unusable
from workers.model import Reason, State
from workers.pipeline import listing

_LINE: Final = "{:<36}  {:<12}  {:<22}  {:<23}  {}"
_HEADER: Final = _LINE.format("media id", "state", "reason", "last changed", "transcription id")


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("list")(list_entries)


def list_entries(
    name: Name,
    state: Annotated[list[State] | None, typer.Option(help="Only those in this state; may be repeated.")] = None,
    reason: Annotated[
        Reason | None, typer.Option(metavar="CODE", help="Only those with this reason code, as `status` shows it.")
    ] = None,
    own: Annotated[
        bool, typer.Option("--own", help="Leaves out the entries that share a recording asked for before.")
    ] = False,
    unusable: Annotated[bool, typer.Option("--unusable", help="The entries that could not be used, instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line instead of text.")] = False,
) -> None:
    """Lists what became of each entry that the backfill asked for: its own recordings, then its duplicates.

    A duplicate shares the recording of another entry, here or in another backfill, and has its state. With the
    unusable entries, which --unusable lists, the lines are as many as `status` shows as requested.
    """
    if unusable and (state or reason or own):
        raise InputError("--unusable entries became no recordings: leave --state, --reason and --own out.")
    resources = existing_resources()
    if unusable:
        shown = _print(_unusable_line(one, as_json=as_json) for one in listing.unusable(resources, name))
        nothing = f"Nothing to list: every entry of {name} could be used."
    else:
        if sys.stdout.isatty() and not as_json:
            sys.stdout.write(f"{_HEADER}\n")
        found = listing.entries(resources, name, states=state or (), reason=reason, own=own)
        shown = _print(_line(one, as_json=as_json) for one in found)
        which = f" {' or '.join(state)}" if state else ""
        nothing = f"Nothing to list: {name} has no{which} recordings{f' with the reason {reason}' if reason else ''}."
    if not shown:
        errors.print(nothing)


def _print(lines: Iterable[str]) -> int:
    """Writes the lines as they come; gives how many there were."""
    number = 0
    for line in lines:
        sys.stdout.write(f"{line}\n")
        number += 1
    sys.stdout.flush()  # so that a reader who has hung up is noticed here
    return number


def _line(one: Entry, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(listing.entry_json(one), ensure_ascii=False)
    theirs = plain(one.transcription_id).plain if one.transcription_id else "-"
    line = _LINE.format(one.media_id, one.state, one.reason or "-", local(one.changed_at), theirs)
    return f"{line}  duplicate, in {one.backfill}" if one.duplicate else line


def _unusable_line(one: Unusable, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(listing.unusable_json(one), ensure_ascii=False)
    return f"entry {one.entry}: {plain(one.reason).plain}  {plain(one.raw).plain}"
