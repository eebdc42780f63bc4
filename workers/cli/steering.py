"""`retroscribe pause`, `resume` and `cancel`: what a person does to a whole backfill."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.common import confirm, console, counted, errors, existing_resources, person
from workers.cli.completion import Name
from workers.ledger.tables import CANCELLED
from workers.model import State

if TYPE_CHECKING:
    from workers.pipeline.steering import Course, Stopped

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    for command in (pause, resume, cancel):
        app.command()(command)


def pause(name: Name, as_json: AsJson = False) -> None:
    """Has nothing of a backfill submitted from now on; what was submitted goes on to its end.

    Safe to repeat. Exit codes: 0 it is paused; 2 wrong use, or it was cancelled.
    """
    from workers.pipeline import steering

    now = steering.pause(existing_resources(), name)
    if as_json:
        typer.echo(json.dumps(_json(now)))
        return
    already = "" if now.changed else " already"
    _say(f"{name} is paused{already}: nothing of it is handed out or submitted until `retroscribe resume {name}`.")
    _say_what_goes_on(now)
    _say(f"{counted(now.waiting)} wait{'s' if now.waiting == 1 else ''} in the ledger.")


def resume(name: Name, as_json: AsJson = False) -> None:
    """Lets a paused backfill go on at once.

    Safe to repeat. Exit codes: 0 it is running; 2 wrong use, or it was cancelled.
    """
    from workers.pipeline import steering

    now = steering.resume(existing_resources(), name)
    if as_json:
        typer.echo(json.dumps(_json(now)))
        return
    _say(f"{name} is running{' again' if now.changed else ' already'}: {counted(now.waiting)} to be submitted.")
    if now.unannounced:
        errors.print(f"{now.unannounced} The recordings are stored and go on by themselves then.")


def cancel(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stops at once and for good what a backfill has not paid for; what is paid for, or may be, goes on to its end.

    A recording that another backfill asked for too becomes that one's. Safe to repeat, which also finishes what was
    interrupted. Exit codes: 0 done; 2 wrong use, or no terminal and no --yes; 130 not confirmed.
    """
    from workers.pipeline import steering

    resources = existing_resources()
    before = steering.look(resources, name)
    if before.state != CANCELLED and not yes:
        stop = f"{counted(before.waiting)} of {name} would stop"
        confirm(_at_stake(before), f"Cancel {name} and stop {counted(before.waiting)}?", stop, as_json=as_json)
    done = _last(steering.cancel(resources, name, by=person("cancel")))
    now = steering.look(resources, name)
    if as_json:
        changed = {"changed": before.state != now.state}
        stopped = {"failed": done.failed, "back": done.back, "handed_over": done.handed_over}
        typer.echo(json.dumps({**_json(now), **changed, **stopped}))
        return
    again = " already" if before.state == CANCELLED and not done.cancelled else ""
    unpaid = now.counts[State.CANCELLED]
    _say(f"{name} is cancelled{again}: {counted(unpaid)} of it {_are(unpaid)} stopped before anything was paid.")
    if done.failed:
        _say(
            f"{counted(done.failed)} failed with the reason cancelled, for something may have been accepted before: "
            f"an event that comes late completes {_them(done.failed)}."
        )
    if done.back:
        _say(f"{counted(done.back)} {_are(done.back)} not paid for again: what was accepted before is waited for.")
    if done.handed_over:
        _say(f"{counted(done.handed_over)} became another backfill's that asked for {_them(done.handed_over)} too.")
    _say_what_goes_on(now)
    if now.state != CANCELLED:
        _say(f"{name} is {now.state} again, for somebody has retried or resubmitted something of it meanwhile.")


def _at_stake(now: "Course") -> Iterator[str]:
    """What stops and what goes on when the backfill is cancelled."""
    stops = [f"{now.counts[state]} {state}" for state in (State.PENDING, State.QUEUED, State.VALIDATED)]
    yield f"{now.backfill} is {now.state}. What stops, unpaid: {', '.join(stops)}."
    yield from _goes_on(now)
    yield "What another backfill asked for too becomes that one's and does not stop."


def _goes_on(now: "Course") -> Iterator[str]:
    if now.posting:
        is_or_are = "is on its way and is" if now.posting == 1 else "are on their way and are"
        yield f"{counted(now.posting, 'POST')} {is_or_are} recorded."
    if now.paid:
        yield f"{counted(now.paid)} {_are(now.paid)} accepted and go{'es' if now.paid == 1 else ''} on to the end."
    if now.doubtful:
        yield (
            f"{counted(now.doubtful)} {_are(now.doubtful)} unknown or parked, perhaps paid for: an event that comes "
            f"late completes {_them(now.doubtful)}, else `retroscribe resolve {now.backfill}`."
        )


def _say_what_goes_on(now: "Course") -> None:
    for line in _goes_on(now):
        _say(line)


def _last(progress: "Iterator[Stopped]") -> "Stopped":
    """What was stopped in the end; shows on a terminal how far it is."""
    from workers.pipeline.steering import Stopped

    done = Stopped()
    for done in progress:
        if errors.is_terminal:
            errors.print(f"{done.total} stopped ...", end="\r")
    return done


def _json(now: "Course") -> dict[str, Any]:
    """The stable form of a change of course."""
    return {
        "backfill": now.backfill,
        "state": now.state,
        "changed": now.changed,
        "states": {str(state): now.counts[state] for state in State},
        "waiting": now.waiting,
        "posts_on_their_way": now.posting,
        "unannounced": now.unannounced,
    }


def _say(sentence: str) -> None:
    console.print(sentence, markup=False, soft_wrap=True)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"
