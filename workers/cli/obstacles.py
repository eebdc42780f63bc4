"""What stands in the way of a recording's next step: a pause, a halt, a closed gate, nobody who works."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from config import queues
from workers.cli.common import duration
from workers.ledger.states import UNSUBMITTED
from workers.ledger.tables import PAUSED
from workers.model import CallClass, Lane, State
from workers.pipeline.explain import Explained
from workers.pipeline.way_back import NO_WAY, WayBack

UNPROVED: Final = (
    "Results can only be looked up, for the API can't reach us (RETROSCRIBE_PUBLIC_URL is not set), and no look-up has "
    "been answered yet: one recording goes first to see whether its status can be looked up, the others wait."
)
#: The calls that the next steps of a recording need.
_CALLS: Final = {
    State.PENDING: (CallClass.MEDIA, CallClass.SUBMIT, CallClass.TOKEN),
    State.QUEUED: (CallClass.MEDIA, CallClass.TOKEN),
    State.VALIDATED: (CallClass.SUBMIT, CallClass.TOKEN),
    State.TRANSCRIBING: (CallClass.STATUS, CallClass.TOKEN),
}


def obstacles(one: Explained) -> list[str]:
    """A sentence about each thing that has to be over before the recording's next step, the weightiest first."""
    state = one.recording.state
    if state not in _CALLS:
        return []
    found = []
    if state in UNSUBMITTED and one.backfill_state == PAUSED:
        name = one.recording.backfill
        found.append(f"Backfill {name} is paused, so nothing of it is submitted until `retroscribe resume {name}`.")
    if state in (State.PENDING, State.VALIDATED) and one.around.way_back == WayBack.NONE:
        found.append(NO_WAY)
    if state == State.PENDING and one.around.way_back == WayBack.UNPROVED:
        found.append(UNPROVED)
    return [*found, *_halted(one), *_closed(one)]


def needed_queues(one: Explained) -> Collection[str]:
    """The queues that some worker has to take from for the next step to be done."""
    if one.event_waits:
        return (queues.INDEX,)
    live = one.recording.lane == Lane.LIVE
    return {
        State.PENDING: (queues.CONTROL, queues.LIVE if live else queues.VALIDATE),
        State.QUEUED: (queues.LIVE if live else queues.VALIDATE,),
        State.VALIDATED: (queues.LIVE if live else queues.SUBMIT,),
        State.SUBMITTING: (queues.CONTROL,),
        State.UNKNOWN: (queues.CONTROL,),
        State.TRANSCRIBING: (queues.CONTROL, queues.POLL, queues.INDEX),
        State.COMPLETED: (queues.INDEX,),
    }.get(one.recording.state, ())


def local(moment: float, *, beside: float | None = None) -> str:
    """A moment (Unix seconds) in local time with its zone; without the date if that is the date of `beside`."""
    when = datetime.fromtimestamp(moment).astimezone()
    same_day = beside is not None and datetime.fromtimestamp(beside).astimezone().date() == when.date()
    return when.strftime("%H:%M:%S %Z" if same_day else "%Y-%m-%d %H:%M:%S %Z")


def _halted(one: Explained) -> list[str]:
    halt = one.around.halt
    if halt is None or (one.recording.state == State.TRANSCRIBING and halt.call_class != CallClass.TOKEN):
        return []
    probes = "this recording" if halt.probe_recording_id == one.recording.id else "a recording each minute"
    since = local(halt.since, beside=one.around.now)
    return [f"The API client is halted since {since}, and {probes} finds out whether it still is: {halt.detail}"]


def _closed(one: Explained) -> list[str]:
    if not one.around.limits:
        return ["Redis does not answer, so no call may be made: start it, or correct RETROSCRIBE_REDIS_URL."]
    mine = [one.around.limits[call_class] for call_class in _CALLS[one.recording.state]]
    return [
        f"{calls.call_class} calls wait {duration(calls.gate_seconds)} ({calls.gate_reason})."
        for calls in sorted(mine, key=lambda calls: -calls.gate_seconds)
        if calls.gate_seconds
    ]
