"""`retroscribe retry` and `retroscribe resolve`: what a person decides about recordings."""

import json
import logging
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from config.logging import configure_logging
from workers.cli.common import console, errors, existing_resources, person
from workers.cli.completion import backfill_names
from workers.errors import InputError
from workers.ledger import backfills
from workers.ledger.tables import RUNNING
from workers.model import Reason, State
from workers.pipeline import decisions
from workers.pipeline.decisions import LeftAlone
from workers.resources import Resources

if TYPE_CHECKING:
    from workers.pipeline.operations import Decision, Done, Undecided

OK: Final = 0
ALL_LEFT_ALONE: Final = 3

_DID: Final = {
    Reason.RETRIED: "retried: handed out as the queues have room",
    Reason.ADOPTED: "adopted: the sweep asks for its status within seconds",
    Reason.REPEATED: "resubmitted: the sweep sends the same bytes with the same callback ref within seconds",
    Reason.RESUBMITTED: "resubmitted: the sweep sends a new request with a new callback ref within seconds",
    Reason.DROPPED: "dropped, so failed; an event that comes late completes it all the same",
}
#: What comes to a submission.
_SENT: Final = frozenset({Reason.RETRIED, Reason.REPEATED, Reason.RESUBMITTED})
_LEFT: Final = {
    LeftAlone.EVENT_WAITS: "an event waits in the inbox and goes first; try again in a minute",
    LeftAlone.PERHAPS_ACCEPTED: "the API accepted it, or may have, and has not said that it failed; --pay-again "
    "submits it anew, and it may be charged again",
    LeftAlone.NOT_REPEATABLE: "{problem} With --pay-again it is submitted anew, and may be charged again",
    LeftAlone.NOT_UNDECIDED: "it does not wait for a decision; `retroscribe explain` says how it stands",
}

Reasons = Annotated[str | None, typer.Option(help="Only those with this reason code, as `status` shows it.")]
PayAgain = Annotated[
    bool, typer.Option("--pay-again", help="Also those that may have been accepted: they may be charged again.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(retry)
    app.command()(resolve)


def retry(
    name: Annotated[
        str,
        typer.Argument(help="The backfill; only recordings of its own begin anew.", autocompletion=backfill_names),
    ],
    state: Annotated[
        list[State] | None, typer.Option(help="failed (default), rejected or cancelled; may be repeated.")
    ] = None,
    reason: Reasons = None,
    pay_again: PayAgain = False,
    as_json: AsJson = False,
) -> int:
    """Has recordings that failed, were rejected or were cancelled begin anew.

    Left alone are those that the API may have accepted without saying that they failed, and those of which an event
    waits. Safe to repeat. Exit codes: 0 done, or nothing to do; 2 wrong use; 3 all were left alone.
    """
    from workers.pipeline import operations

    _check_reason(reason)
    resources = existing_resources()
    states = list(dict.fromkeys(state or [State.FAILED]))
    done = _last(operations.retry(resources, name, states, reason=reason, pay_again=pay_again, by=person("retry")))
    if as_json:
        _echo({"backfill": name, "retried": done.done[Reason.RETRIED]}, done)
    elif not done.done and not done.left_alone:
        why = f" with the reason {reason}" if reason else ""
        console.print(f"Nothing to do: {name} has no {' or '.join(states)} recordings{why}.", markup=False)
    else:
        _show(done, resources, backfill=name, follow=f"status {name}")
    return _code(done)


def resolve(
    target: Annotated[
        str,
        typer.Argument(
            metavar="REF|NAME",
            help="A recording's ref or media id, or a backfill.",
            autocompletion=backfill_names,
        ),
    ],
    reason: Reasons = None,
    adopt: Annotated[
        str | None, typer.Option(metavar="ID", help="The API accepted it under this transcription id.")
    ] = None,
    resubmit: Annotated[
        bool, typer.Option("--resubmit", help="Submit it again: the same bytes while their outcome is unknown.")
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Give it up: it fails, unless an event comes late.")] = False,
    pay_again: PayAgain = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Decides about recordings that are parked or whose outcome is unknown: one, or those of a backfill.

    Those of a backfill are counted and confirmed first. Safe to repeat. Exit codes: 0 done, or nothing to do; 2 wrong
    use, or many without a terminal and without --yes; 3 all were left alone; 130 not confirmed.
    """
    from workers.pipeline import operations

    _check_reason(reason)
    decision = _decision(adopt, resubmit=resubmit, drop=drop, pay_again=pay_again)
    resources = existing_resources()
    # A recording that is dropped is finished, so that it has an audit record.
    settings = resources.settings
    configure_logging(settings.log_format, level=logging.ERROR, audit=settings.home / "audit.jsonl")
    what = operations.undecided(resources, target, reason)
    if what.backfill is None and reason is not None:
        raise InputError("--reason goes with a backfill: leave it out for one recording.")
    if what.backfill is not None and adopt is not None:
        raise InputError("--adopt is about one recording: name it by its ref or media id.")
    if what.backfill is not None and what.ids and not yes:
        _confirm(what, as_json=as_json)
    done = _last(operations.resolve(resources, what.ids, decision))
    if as_json:
        _echo({"resolved": done.done.total(), "done": {str(key): number for key, number in done.done.items()}}, done)
    elif not what.ids:
        why = f" with the reason {reason}" if reason else ""
        console.print(f"Nothing to do: {target} has no parked or unknown recordings{why}.", markup=False)
    else:
        follow = f"explain {what.examples[0].ref}" if what.backfill is None else f"status {target}"
        _show(done, resources, backfill=what.examples[0].backfill, follow=follow)
    return _code(done)


def _decision(adopt: str | None, *, resubmit: bool, drop: bool, pay_again: bool) -> "Decision":
    if [adopt is not None, resubmit, drop].count(True) != 1:
        raise InputError("Say what to do, one of --adopt ID, --resubmit and --drop.")
    if pay_again and not resubmit:
        raise InputError("--pay-again goes with --resubmit only.")
    by = person("resolve")
    if adopt is not None:
        if not 1 <= len(adopt) <= 128 or not adopt.isprintable() or " " in adopt or "/" in adopt:
            raise InputError(f"{adopt!r} is no transcription id: 1 to 128 printable characters, no spaces or slashes.")
        return partial(decisions.adopt, transcription_id=adopt, by=by)
    return partial(decisions.resubmit, pay_again=pay_again, by=by) if resubmit else partial(decisions.drop, by=by)


def _confirm(what: "Undecided", *, as_json: bool) -> None:
    """Shows what is to be decided about and asks; raises InputError where nobody can answer."""
    for (state, reason), number in what.counts.items():
        errors.print(f"{number} {state}, {reason or 'without a reason'}")
    for one in what.examples:
        errors.print(f"  {one.media_id} (ref {one.ref}): {one.detail or one.reason or one.state}")
    if len(what.ids) > len(what.examples):
        errors.print(f"  and {len(what.ids) - len(what.examples)} more")
    if as_json or not sys.stdin.isatty():
        raise InputError(f"{len(what.ids)} recordings would be decided about: add --yes to confirm that.")
    if not typer.confirm(f"Decide about {_recordings(len(what.ids))}?", err=True):
        errors.print("Nothing was changed.")
        raise typer.Abort


def _last(progress: "Iterator[Done]") -> "Done":
    """What was done in the end; shows on a terminal how far it is."""
    from workers.pipeline.operations import Done

    done = Done()
    for done in progress:
        if errors.is_terminal:
            errors.print(f"{done.done.total() + done.left_alone.total()} looked at ...", end="\r")
    return done


def _show(done: "Done", resources: Resources, *, backfill: str, follow: str) -> None:
    """Says what was done and what was not, and where to look next."""
    for reason, number in done.done.items():
        console.print(f"{_recordings(number)} {_DID[reason]}.", markup=False)
    for why, number in done.left_alone.items():
        console.print(f"{_recordings(number)} left alone: {_LEFT[why].format(problem=done.problem)}.", markup=False)
    if done.unannounced:
        errors.print(f"{done.unannounced} The recordings are stored and go on by themselves then.")
    with resources.ledger.read() as tx:
        found = backfills.by_name(tx, backfill)
    if found is not None and found.state != RUNNING and not _SENT.isdisjoint(done.done):
        waits = f"{backfill} is {found.state}, so nothing of it is submitted until `retroscribe resume {backfill}`."
        console.print(waits, markup=False)
    if done.done:
        console.print(f"`retroscribe {follow}` shows what comes of it.", markup=False)


def _echo(head: dict[str, Any], done: "Done") -> None:
    left = {str(why): number for why, number in done.left_alone.items()}
    found = {**head, "left_alone": left, "problem": done.problem, "unannounced": done.unannounced}
    typer.echo(json.dumps(found, ensure_ascii=False))


def _code(done: "Done") -> int:
    return ALL_LEFT_ALONE if done.left_alone and not done.done else OK


def _check_reason(reason: str | None) -> None:
    if reason is not None and reason not in list(Reason):
        raise InputError(f"'{reason}' is no reason code: `retroscribe status NAME` shows those there are.")


def _recordings(number: int) -> str:
    return f"{number} recording{'' if number == 1 else 's'}"
