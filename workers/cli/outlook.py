"""What happens to a recording next, in one sentence, and what a person may do about it."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from config import queues
from workers.cli.common import duration
from workers.cli.obstacles import local, obstacles
from workers.ledger.states import UNSUBMITTED
from workers.ledger.tables import CANCELLED
from workers.model import Lane, Reason, State
from workers.pipeline.explain import Explained


@dataclass(frozen=True, slots=True)
class Choice:
    """A command, ready to be copied, and what it does."""

    command: str
    does: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """What happens next; `obstacles` are sentences about what has to be over first."""

    sentence: str
    obstacles: tuple[str, ...]
    choices: tuple[Choice, ...]


def outlook(one: Explained, nobody: str | None = None) -> Outlook:
    """What happens to the recording next, as far as ledger, limiter and settings tell.

    `nobody` is a sentence that says why no worker does it, if none does.
    """
    in_the_way = [nobody] if nobody else []
    if one.event_waits:
        sentence = "An event waits in the inbox and goes first: the index task applies it, and the sweep asks for that."
        choices = []
    else:
        sentence, choices = _SENTENCES[one.recording.state](one), _choices(one)
        in_the_way += obstacles(one)
    if one.backfill_state == CANCELLED and one.recording.state in UNSUBMITTED and not one.event_waits:
        return Outlook(_stopping(one), tuple([nobody] if nobody else []), ())
    if in_the_way:
        sentence = f"Once that is over, {sentence[:1].lower()}{sentence[1:]}"
    return Outlook(sentence, tuple(in_the_way), tuple(choices))


def _due(one: Explained, word: str = "at") -> str:
    """The moment at which the pump or the sweep looks at it, and how far it is."""
    now, moment = one.around.now, one.recording.due_at
    if moment is None or moment <= now:
        return "within seconds"
    return f"{word} {local(moment, beside=now)} (in {duration(moment - now)})"


def _pending(one: Explained) -> str:
    if one.recording.due_at is not None and one.recording.due_at > one.around.now:
        when = _due(one, "not before")
    elif one.before:
        others = "one recording" if one.before == 1 else f"{one.before} recordings"
        when = f"after {others} of {one.recording.backfill} before it, as the queues have room,"
    else:
        when = "within seconds, as the queues have room,"
    return f"The pump hands it out {when} and a worker looks its media up first."


def _queued(one: Explained) -> str:
    queue = queues.LIVE if one.recording.lane == Lane.LIVE else queues.VALIDATE
    return (
        f"A worker looks its media up when its message comes up in the queue {queue}; if that message is lost, the "
        f"sweep sends one {_due(one, 'after')}."
    )


def _validated(one: Explained) -> str:
    queue = queues.LIVE if one.recording.lane == Lane.LIVE else queues.SUBMIT
    again = next((sent.number for sent in one.submissions if sent.id == one.recording.repeats), None)
    does = "submits it" if again is None else f"repeats its submission {again} byte for byte"
    return (
        f"A worker {does} when its message comes up in the queue {queue} and the limit allows; if there is no such "
        f"message, the sweep sends one {_due(one, 'after')}."
    )


def _stopping(one: Explained) -> str:
    name = one.recording.backfill
    return (
        f"It stops unpaid within seconds, for {name} was cancelled: the sweep, or `retroscribe cancel {name}`, does it."
    )


def _submitting(one: Explained) -> str:
    return (
        f"Its POST may be on its way, and the worker says what became of it; if it has not {_due(one, 'by')}, the "
        "sweep sets it to unknown, and nothing is sent again before that is settled."
    )


def _unknown(one: Explained) -> str:
    settings, recording = one.around.settings, one.recording
    latest = one.submissions[-1] if one.submissions else None
    if settings.callback_base_url is None:
        proof = "Only a late answer to its worker can prove it, for the API can't reach us; without one"
    else:
        proof = "A callback, or a late answer to its worker, proves it; without either"
    repeats = settings.unknown_policy == "resubmit" and recording.reason != Reason.REPEAT_IMPOSSIBLE
    if repeats and latest is not None and latest.sends == 1:
        return (
            f"{proof}, the sweep repeats submission {latest.number} once, byte for byte, {_due(one)}, or parks it if "
            "the settings don't make the same bytes any more."
        )
    return f"{proof}, the sweep parks it {_due(one)} for a person to decide; nothing is sent again by itself."


def _parked(one: Explained) -> str:
    if one.accepted:
        return (
            f"A person decides: the API accepted it as {one.recording.transcription_id} and brought no end; an event "
            "that comes late completes it all the same."
        )
    return (
        "A person decides: ask the API's support, with the times and callback refs above, whether it was accepted; an "
        "event that comes late completes it all the same."
    )


def _transcribing(one: Explained) -> str:
    webhooks, now = one.around.settings.callback_base_url is not None, one.around.now
    late, deadline = one.deadline <= now, local(one.deadline, beside=now)
    if not one.around.asks:
        ends = "only a webhook ends it" if webhooks else "nothing ends it, for the API can't reach us either"
        overdue = _due(one) if late else f"soon after {deadline}"
        return f"The API has no status route, so {ends}; without an end it is parked as overdue {overdue}."
    first = ", unless a webhook comes first" if webhooks else ""
    if late:
        return (
            f"The sweep asks for its status (GET) {_due(one)}{first}; its deadline was {deadline}, so an answer that "
            "brings no end parks it as overdue."
        )
    return (
        f"The sweep asks for its status (GET) {_due(one)}{first}; from {deadline} on an answer that brings no end "
        "parks it as overdue."
    )


def _completed(one: Explained) -> str:
    return (
        "The index task makes its transcript searchable, which the ledger has; if that task's message is lost or the "
        f"search index is away, the sweep asks again {_due(one)}."
    )


def _failed(one: Explained) -> str:
    late = ", or an event that comes late completes it" if one.submissions else ""
    return f"Nothing, unless a person has it begin anew{late}."


_SENTENCES: Final[Mapping[State, Callable[[Explained], str]]] = {
    State.PENDING: _pending,
    State.QUEUED: _queued,
    State.VALIDATED: _validated,
    State.SUBMITTING: _submitting,
    State.UNKNOWN: _unknown,
    State.PARKED: _parked,
    State.TRANSCRIBING: _transcribing,
    State.COMPLETED: _completed,
    State.INDEXED: lambda _: "Nothing: it is done, and its transcript is searchable.",
    State.REJECTED: _failed,
    State.FAILED: _failed,
    State.CANCELLED: lambda _: "Nothing, unless a person has it begin anew or another backfill asks for it.",
    State.FORGOTTEN: lambda _: "Nothing: its text was removed on request, and it is not transcribed again.",
}


def _choices(one: Explained) -> list[Choice]:
    """What a person may do now."""
    recording = one.recording
    if recording.state in (State.FAILED, State.REJECTED, State.CANCELLED):
        return [_retry(one)]
    if recording.state == State.INDEXED:
        return [Choice(f"retroscribe search --media-id {shlex.quote(recording.media_id)}", "find it")]
    if recording.state not in (State.UNKNOWN, State.PARKED):
        return []
    resolve = f"retroscribe resolve {recording.ref}"
    drop = Choice(f"{resolve} --drop", "give it up; an event that comes late completes it all the same")
    if one.accepted:
        wait = f"{resolve} --adopt {shlex.quote(recording.transcription_id or 'ID')}"
        return [
            Choice(wait, "go on looking it up, with a new deadline"),
            Choice(f"{resolve} --resubmit --pay-again", "submit it anew; it may be charged again"),
            drop,
        ]
    return [
        Choice(f"{resolve} --adopt ID", "the API accepted it under this transcription id"),
        Choice(f"{resolve} --resubmit", "send the same bytes again; a server that minds their key charges once"),
        drop,
    ]


def _retry(one: Explained) -> Choice:
    recording = one.recording
    state = "" if recording.state == State.FAILED else f" --state {recording.state}"
    reason = f" --reason {recording.reason}" if recording.reason else ""
    alike = f"every {recording.state} recording of {recording.backfill}" + (" with this reason" if reason else "")
    command = f"retroscribe retry {recording.backfill}{state}{reason}"
    if one.perhaps_accepted:
        return Choice(f"{command} --pay-again", f"have {alike} begin anew; this one may be charged again")
    return Choice(command, f"have {alike} begin anew")
