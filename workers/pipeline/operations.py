"""What a person has done to many recordings: those that ended badly begin anew, those in doubt are decided about."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from workers.errors import InputError
from workers.ledger import backfills, events, recordings, submissions
from workers.model import Reason, Recording, State
from workers.pipeline.decisions import LeftAlone
from workers.pipeline.finish import audit
from workers.pipeline.status import named
from workers.pipeline.steering import reopen, wake_pump
from workers.pipeline.unknown import NotRepeatable
from workers.resources import Resources

#: Recordings that begin anew in one transaction.
BATCH: Final = 500
#: Recordings decided about in one transaction: each takes several statements.
TOGETHER: Final = 50
EXAMPLES: Final = 3

#: What may begin anew.
ENDED: Final = (State.FAILED, State.REJECTED, State.CANCELLED)
#: What a person may know more of than we do.
UNDECIDED: Final = (State.UNKNOWN, State.PARKED)

_UNDER_WAY: Final = "they are under way, and `retroscribe explain MEDIA_ID` says what happens next"
_DECIDE: Final = "a person decides about them with `retroscribe resolve {name}`"
_DONE: Final = "their transcripts are here, and `retroscribe reindex` makes them searchable again"
_NO_RETRY: Final[Mapping[State, str]] = {
    State.PENDING: _UNDER_WAY,
    State.QUEUED: _UNDER_WAY,
    State.VALIDATED: _UNDER_WAY,
    State.SUBMITTING: _UNDER_WAY,
    State.TRANSCRIBING: _UNDER_WAY,
    State.UNKNOWN: _DECIDE,
    State.PARKED: _DECIDE,
    State.COMPLETED: _DONE,
    State.INDEXED: _DONE,
    State.FORGOTTEN: "their text was removed on request",
}

Decision = Callable[[Connection, Resources, Recording], Reason | LeftAlone]


@dataclass(slots=True)
class Done:
    """How many recordings something was done about, by its reason code, and how many were left alone, by why.

    `problem` says why a request can't be repeated, `unannounced` why the workers could not be told. `reopened` is True
    when the backfill had been cancelled and runs again.
    """

    done: Counter[Reason] = field(default_factory=Counter)
    left_alone: Counter[LeftAlone] = field(default_factory=Counter)
    problem: str | None = None
    unannounced: str | None = None
    reopened: bool = False


@dataclass(frozen=True, slots=True)
class Undecided:
    """What a decision is about: recordings (ids), how many in which state for which reason, and some of them.

    `backfill` is None when one recording was named.
    """

    ids: Sequence[int]
    counts: Mapping[tuple[State, str | None], int]
    examples: Sequence[Recording]
    backfill: str | None


def retry(
    resources: Resources, name: str, states: Sequence[State], *, reason: str | None = None, pay_again: bool, by: str
) -> Iterator[Done]:
    """Has a backfill's own recordings that ended in these states begin anew, telling after each batch how far it is.

    One of which something may have been accepted is left alone unless it is to be paid for again, and in any case one
    of which an event waits. A cancelled backfill runs again then. Raises InputError for states that are not in ENDED,
    and while what was cancelled has not all stopped. Safe to repeat and to interrupt.
    """
    with resources.ledger.read() as tx:
        target = named(tx, name)
        for state in states:
            if state not in ENDED:
                number = sum(recordings.reasons_in(tx, target.id, [state]).values())
                why = _NO_RETRY[state].format(name=name)
                raise InputError(f"{state} recordings are not retried ({number} of {name} now): {why}.")
    so_far = Done()
    for state in states:
        last: int | None = 0
        while last is not None:
            last = _retry_some(resources, target, state, reason, last, so_far, pay_again=pay_again, by=by)
            yield so_far
    if so_far.done:
        so_far.unannounced = wake_pump()
        yield so_far


def undecided(resources: Resources, target: str, reason: str | None = None) -> Undecided:
    """What `target` names: the recordings of a backfill that are unknown or parked, or one recording, decided or not.

    Raises InputError when the ledger has neither, and when several recordings of one media id are undecided.
    """
    with resources.ledger.read() as tx:
        backfill = backfills.by_name(tx, target)
        if backfill is None:
            return _one(recordings.find(tx, target), target)
        counts = recordings.reasons_in(tx, backfill.id, UNDECIDED)
        wanted = {key: number for key, number in counts.items() if reason in (None, key[1])}
        ids = [one for state in UNDECIDED for one in recordings.ids_in(tx, backfill.id, state, reason=reason)]
        examples = [recordings.get(tx, one) for one in ids[:EXAMPLES]]
    return Undecided(ids, wanted, [one for one in examples if one is not None], target)


def resolve(resources: Resources, ids: Sequence[int], decide: Decision) -> Iterator[Done]:
    """Decides about recordings (ids) that are unknown or parked, telling after each batch how far it is.

    No decision overtakes an event that waits. Safe to repeat and to interrupt: what has been decided about is left
    alone then.
    """
    so_far = Done()
    for start in range(0, len(ids), TOGETHER):
        with resources.ledger.write() as tx:
            for one in ids[start : start + TOGETHER]:
                verdict = _decided(tx, resources, one, decide, so_far)
                if isinstance(verdict, LeftAlone):
                    so_far.left_alone[verdict] += 1
                else:
                    so_far.done[verdict] += 1
                if verdict == Reason.DROPPED and (dropped := recordings.get(tx, one)):
                    audit(dropped)
        yield so_far


def _retry_some(
    resources: Resources,
    target: backfills.Backfill,
    state: State,
    reason: str | None,
    after_id: int,
    so_far: Done,
    *,
    pay_again: bool,
    by: str,
) -> int | None:
    """One batch in one transaction; gives the last id it looked at, None after the last batch."""
    with resources.ledger.write() as tx:
        found = recordings.ids_in(tx, target.id, state, reason=reason, after_id=after_id, most=BATCH, hold=True)
        waiting = events.waiting_among(tx, found)
        paid = set() if pay_again else submissions.perhaps_accepted_among(tx, found) - waiting
        anew = [one for one in found if one not in waiting and one not in paid]
        reopened = bool(anew) and reopen(tx, target.id, target.name)
        recordings.begin_anew(tx, anew, state, by=by)
    so_far.reopened |= reopened
    so_far.done += Counter({Reason.RETRIED: len(anew)})
    so_far.left_alone += Counter({LeftAlone.EVENT_WAITS: len(waiting), LeftAlone.PERHAPS_ACCEPTED: len(paid)})
    return found[-1] if len(found) == BATCH else None


def _one(found: Sequence[Recording], target: str) -> Undecided:
    """The one recording that the media id or ref names."""
    chosen = [one for one in found if one.state in UNDECIDED] or list(found)
    if not chosen:
        raise InputError(f"There is no backfill and no recording '{target}': `retroscribe status` shows what there is.")
    if len(chosen) > 1:
        refs = ", ".join(f"{one.ref} ({one.state}, {', '.join(one.request.languages)})" for one in chosen)
        raise InputError(f"There are {len(chosen)} recordings of '{target}': name one by its ref: {refs}.")
    (one,) = chosen
    return Undecided([one.id], {(one.state, one.reason): 1}, [one], None)


def _decided(
    tx: Connection, resources: Resources, recording_id: int, decide: Decision, so_far: Done
) -> Reason | LeftAlone:
    recording = recordings.lock(tx, recording_id)
    if recording is None or recording.state not in UNDECIDED:
        return LeftAlone.NOT_UNDECIDED
    if events.is_waiting(tx, recording.id):
        return LeftAlone.EVENT_WAITS
    try:
        verdict = decide(tx, resources, recording)
    except NotRepeatable as problem:
        so_far.problem = str(problem)
        return LeftAlone.NOT_REPEATABLE
    if verdict in (Reason.REPEATED, Reason.RESUBMITTED):
        so_far.reopened |= reopen(tx, recording.backfill_id, recording.backfill, wanted=recording.id)
    return verdict
