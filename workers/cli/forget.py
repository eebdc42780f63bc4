"""`retroscribe forget`: removes what was said in recordings, on request and for good."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from workers.cli.common import confirm, console, counted, errors, existing_resources, person
from workers.cli.obstacles import local
from workers.cli.past import plain
from workers.errors import InputError
from workers.ledger.engine import sqlite_path
from workers.model import State
from workers.pipeline.explain import utc
from workers.pipeline.forget import Outcome
from workers.resources import Resources

if TYPE_CHECKING:
    from workers.pipeline.forget import Forgotten, Found

OK: Final = 0
INCOMPLETE: Final = 3
UNREACHABLE: Final = 4
_WORDS: Final = {
    Outcome.FORGOTTEN: "forgotten",
    Outcome.ALREADY: "forgotten already",
    Outcome.UNDER_WAY: "left alone",
}
#: So many are named one by one.
EXAMPLES: Final = 10

#: What forgetting means for recordings that are not done.
_MEANS: Final = {
    State.TRANSCRIBING: "paid for already; what the API sends is not kept",
    State.UNKNOWN: "perhaps paid for; what the API sends is not kept",
    State.PARKED: "perhaps paid for; what the API sends is not kept",
    State.PENDING: "not paid for, and not submitted any more",
    State.QUEUED: "not paid for, and not submitted any more",
    State.VALIDATED: "not paid for, and not submitted any more",
}
_LEFT: Final = (
    "left alone: the request may be on its way to the API at this moment; run the same command again in two minutes"
)
_ELSEWHERE: Final = (
    "What lies elsewhere is out of reach: the API's own copy, exported files, backups, answers of `--json`."
)


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(forget)


def forget(
    recording: Annotated[
        list[str], typer.Argument(metavar="MEDIA_ID|REF...", help="The recordings; - reads them from standard input.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    rewrite: Annotated[
        bool,
        typer.Option(
            "--rewrite/--no-rewrite",
            help="Write embedded database files anew, so that nothing remains in unused parts of them.",
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> int:
    """Removes what was said in recordings from the ledger and the search index, for good.

    A media id stands for every recording of it, a ref for one. Ids, times and history stay, with a receipt of who asked
    for it when; a late event or another list brings nothing back. Safe to repeat, which also finishes what was
    interrupted. Exit codes: 0 all are forgotten; 2 wrong use, or nothing known; 3 some are unknown or left alone; 4 the
    search index or a file could not be cleaned, so repeat it; 130 not confirmed.
    """
    from workers.pipeline import forget as forgetting

    targets = list(_targets(recording))
    resources = existing_resources()
    found = forgetting.look(resources, targets)
    unknown = [one.target for one in found if not one.recordings and not one.others]
    if len(unknown) == len(found):
        raise InputError(
            f"There is no recording with the media id or ref '{unknown[0]}'"
            f"{f', nor with the other {len(unknown) - 1}' if len(unknown) > 1 else ''}: nothing to forget. "
            "If it is asked for later, it is transcribed."
        )
    wanted = [recording for one in found for recording in one.recordings]
    if not yes and any(one.state != State.FORGOTTEN for one in wanted):
        number = counted(len(wanted))
        stake = _at_stake(resources, found, unknown, rewrite=rewrite)
        confirm(stake, f"Forget {number} for good?", f"{number} would be forgotten for good", as_json=as_json)
    by = person("forget")
    done = [_followed(forgetting.forget(resources, one, by=by), number) for number, one in enumerate(wanted, 1)]
    scrubbed = forgetting.scrub(resources) if rewrite else forgetting.Scrubbed()
    problems = [*dict.fromkeys(one.problem for one in done if one.problem), *scrubbed.problems]
    if as_json:
        typer.echo(json.dumps(_json(done, unknown, [*problems, *scrubbed.remains]), ensure_ascii=False))
    else:
        _show(done, found, unknown, rewrite=rewrite)
        for line in scrubbed.remains:
            _say(line)
        for line in problems:
            errors.print(f"{line} Run the same command again.")
    if problems:
        return UNREACHABLE
    return INCOMPLETE if unknown or any(one.outcome == Outcome.UNDER_WAY for one in done) else OK


def _targets(arguments: Sequence[str]) -> Iterator[str]:
    """What the arguments name; `-` stands for the lines of standard input."""
    for argument in arguments:
        lines = sys.stdin if argument == "-" else [argument]
        yield from filter(None, (line.strip() for line in lines))


def _at_stake(
    resources: Resources, found: Sequence["Found"], unknown: Sequence[str], *, rewrite: bool
) -> Iterator[str]:
    """How many recordings are to be forgotten, what that means for them, and how large the files are."""
    wanted = [recording for one in found for recording in one.recordings]
    for state, number in Counter(one.state for one in wanted).items():
        yield f"{number} {state}" + (f": {_MEANS[state]}" if state in _MEANS else "")
    for one in wanted[:EXAMPLES]:
        yield f"  {one.media_id} (ref {one.ref}), {one.state}, asked for by {one.backfill}"
    if len(wanted) > EXAMPLES:
        yield f"  and {len(wanted) - EXAMPLES} more"
    if unknown:
        yield f"{counted(len(unknown), 'id')} {_are(len(unknown))} unknown here: {_some(unknown)}"
    sizes = [f"{path} ({megabytes} MB)" for path, megabytes in _files(resources)]
    if rewrite and sizes:
        yield f"Then these files are written anew, and workers wait for that: {', '.join(sizes)}"


def _files(resources: Resources) -> Iterator[tuple[Path, int]]:
    """The embedded databases, with their sizes in megabytes."""
    for path in (sqlite_path(resources.settings.effective_database_url), resources.settings.search_path):
        if path is not None and path.exists():
            yield path, round(path.stat().st_size / 1e6)


def _show(done: Sequence["Forgotten"], found: Sequence["Found"], unknown: Sequence[str], *, rewrite: bool) -> None:
    """Says what was done, recording by recording while they are few, and what was not."""
    for one in done[:EXAMPLES]:
        _say(_told(one))
    if len(done) > EXAMPLES:
        _say(f"... and {len(done) - EXAMPLES} more")
    counts = Counter(one.outcome for one in done)
    parts = [f"{counts[outcome]} {word}" for outcome, word in _WORDS.items() if counts[outcome]]
    if unknown:
        parts.append(f"{len(unknown)} unknown here ({_some(unknown)})")
    _say(f"{', '.join(parts)}.")
    for others in (one for one in found if one.others):
        refs = ", ".join(f"{one.ref} ({one.state})" for one in others.others)
        _say(f"Not forgotten, for only {others.target} was named: {refs} of the same media id.")
    if not rewrite:
        _say("Unused parts of embedded database files may still hold what was removed: repeat it without --no-rewrite.")
    _say(_ELSEWHERE)


def _told(one: "Forgotten") -> str:
    who = f"{one.recording.media_id} (ref {one.recording.ref})"
    if one.outcome == Outcome.UNDER_WAY:
        return f"{who} {_LEFT}."
    if one.outcome == Outcome.ALREADY:
        return f"{who} was forgotten already, {local(one.at or 0)} by {one.by}."
    means = f" ({_MEANS[one.before]})" if one.before in _MEANS else ""
    return f"{who} is forgotten: it was {one.before}{means}."


def _json(done: Sequence["Forgotten"], unknown: Sequence[str], remains: Sequence[str]) -> dict[str, Any]:
    """The stable form."""
    counts = Counter(one.outcome for one in done)
    return {
        **{str(outcome): counts[outcome] for outcome in Outcome},
        "unknown": list(unknown),
        "recordings": [
            {
                "media_id": one.recording.media_id,
                "ref": one.recording.ref,
                "backfill": one.recording.backfill,
                "outcome": str(one.outcome),
                "state_before": str(one.before),
                "at": utc(one.at),
                "by": one.by,
            }
            for one in done
        ],
        "remains": list(remains),
    }


def _followed(one: "Forgotten", number: int) -> "Forgotten":
    """The same, having said how far it is on a terminal."""
    if errors.is_terminal and number % 100 == 0:
        errors.print(f"{number} looked at ...", end="\r")
    return one


def _some(targets: Sequence[str]) -> str:
    return ", ".join(targets[:EXAMPLES]) + (", ..." if len(targets) > EXAMPLES else "")


def _say(sentence: str) -> None:
    console.print(plain(sentence), soft_wrap=True)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
