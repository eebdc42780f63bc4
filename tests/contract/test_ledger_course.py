"""A backfill's course in the ledger: what stops when it is cancelled, what goes to another, and who waits for whom."""

import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from sqlalchemy import Connection, func, insert, select

from tests.contract.test_ledger_intake import ended, find, take
from tests.support.desk import BY
from tests.support.race import overlapping
from workers.errors import InputError
from workers.ledger import backfills, course, handout, recordings, submissions
from workers.ledger.engine import Ledger
from workers.ledger.funnel import Funnel, funnel
from workers.ledger.states import ACTIVE
from workers.ledger.tables import CANCELLED, PAUSED, RUNNING, transitions
from workers.ledger.tables import recordings as table
from workers.model import Lane, Reason, State

pytestmark = pytest.mark.both_ledgers

MANY = 100_000


def id_of(tx: Connection, name: str) -> int:
    found = backfills.by_name(tx, name)
    assert found is not None
    return found.id


def counts(ledger: Ledger, name: str) -> Funnel:
    with ledger.read() as tx:
        return funnel(tx, id_of(tx, name))


def set_course(ledger: Ledger, name: str, after: str) -> None:
    with ledger.write() as tx:
        assert course.change_state(tx, id_of(tx, name), (RUNNING, PAUSED, CANCELLED), after)


def batches(ledger: Ledger, name: str, most: int = 500) -> Iterator[course.Batch]:
    """Stops everything that is left of the backfill."""
    for state in course.IN_TURN:
        last: int | None = 0
        while last is not None:
            with ledger.write() as tx:
                batch = course.cancel_some(tx, id_of(tx, name), state, after_id=last, most=most, by=BY)
            last = batch.last
            yield batch


def cancel(ledger: Ledger, name: str) -> tuple[int, int]:
    """How many were cancelled, and how many handed over."""
    set_course(ledger, name, CANCELLED)
    done = list(batches(ledger, name))
    return sum(one.cancelled for one in done), sum(one.handed_over for one in done)


def history(ledger: Ledger, media_id: str) -> list[tuple[str, str, str | None, str]]:
    with ledger.read() as tx:
        rows = recordings.history(tx, find(ledger, media_id).id)
    return [(row["from_state"], row["to_state"], row["reason"], row["by"]) for row in rows]


def sent(
    ledger: Ledger, media_id: str, outcome: str, transcription_id: str | None = None, *, failed: bool = False
) -> None:
    """Writes that a POST left for the recording, what became of it, and whether its transcription failed."""
    recording = find(ledger, media_id)
    with ledger.write() as tx:
        one = submissions.open_next(
            tx, recording.id, callback_ref=uuid.uuid4().hex, epoch=recording.epoch, request_digest=bytes(32)
        )
        submission = submissions.settle(tx, one, outcome, transcription_id=transcription_id)
        if failed and transcription_id:
            submissions.note_failed(tx, submission, transcription_id)


def add_many(ledger: Ledger, name: str, number: int) -> None:
    """Pending recordings in bulk, as intake leaves them."""
    now = time.time()
    with ledger.write() as tx:
        target = backfills.ensure(tx, name, {})
    same = {"languages": "en-US", "speaker_identification": True, "backfill_id": target.id, "lane": Lane.BACKFILL}
    begun = {"state": State.PENDING, "epoch": 0, "attempts": 0, "resends": 0, "polls": 0}
    moments = {"due_at": now, "created_at": now, "changed_at": now}
    for start in range(0, number, 10_000):
        rows = [
            {"ref": uuid.uuid4().hex, "media_id": f"m-{entry}", "fingerprint": os.urandom(32), "entry": entry}
            | same
            | begun
            | moments
            for entry in range(start, min(start + 10_000, number))
        ]
        with ledger.write() as tx:
            tx.execute(insert(table), rows)


def test_what_is_not_paid_for_stops_with_its_history_and_everything_else_stays(ledger: Ledger) -> None:
    media_ids = [str(state) for state in State if state != State.FORGOTTEN]
    take(ledger, "q3", media_ids)
    for media_id in media_ids:
        ended(ledger, media_id, State(media_id), due_at=4e9 if State(media_id) in ACTIVE else None)
    before = {media_id: find(ledger, media_id) for media_id in media_ids}

    assert cancel(ledger, "q3") == (3, 0)

    for media_id in ("pending", "queued", "validated"):
        after = find(ledger, media_id)
        assert (after.state, after.reason, after.due_at) == (State.CANCELLED, Reason.CANCELLED, None)
        assert after.epoch == before[media_id].epoch + 1
        assert history(ledger, media_id) == [(media_id, "cancelled", "cancelled", BY)]
    for media_id in set(media_ids) - {"pending", "queued", "validated"}:
        after = find(ledger, media_id)
        assert (after.state, after.epoch) == (before[media_id].state, before[media_id].epoch)
        assert history(ledger, media_id) == []


def test_a_hundred_thousand_stop_once_each_in_batches_of_at_most_500(ledger: Ledger) -> None:
    many = MANY if ledger.engine.dialect.name == "sqlite" else MANY // 20  # filling the server takes longest
    add_many(ledger, "q3", many)
    set_course(ledger, "q3", CANCELLED)

    sizes = [batch.cancelled for batch in batches(ledger, "q3")]

    assert (sum(sizes), max(sizes)) == (many, 500)
    with ledger.read() as tx:
        assert course.counts(tx, id_of(tx, "q3")) == {State.CANCELLED: many}
        told = select(func.count(), func.count(transitions.c.recording_id.distinct()))
        assert tx.execute(told.where(transitions.c.to_state == State.CANCELLED)).one() == (many, many)


def test_nothing_stops_while_the_backfill_is_not_cancelled(ledger: Ledger) -> None:
    take(ledger, "q3", ["a"])

    assert [batch.cancelled for batch in batches(ledger, "q3")] == [0, 0, 0]
    assert find(ledger, "a").state == State.PENDING


@pytest.mark.parametrize("state", [State.PENDING, State.QUEUED, State.VALIDATED])
def test_one_that_may_have_been_paid_for_before_fails_and_says_so(ledger: Ledger, state: State) -> None:
    take(ledger, "q3", ["a", "b"])
    sent(ledger, "a", submissions.UNKNOWN)
    ended(ledger, "a", state)

    assert cancel(ledger, "q3") == (1, 0)

    failed = find(ledger, "a")
    assert (failed.state, failed.reason, failed.due_at) == (State.FAILED, Reason.CANCELLED, None)
    assert "an event that comes late completes it" in (failed.detail or "")
    walk = [state, State.FAILED] if state != State.PENDING else [state, State.QUEUED, State.FAILED]
    assert history(ledger, "a") == [(one, two, "cancelled", BY) for one, two in pairwise(walk)]
    assert (find(ledger, "b").state, find(ledger, "b").detail) == (State.CANCELLED, None)


@pytest.mark.parametrize("state", [State.PENDING, State.QUEUED, State.VALIDATED])
def test_one_that_was_accepted_and_is_to_be_paid_for_again_goes_back_to_what_it_was_accepted_as(
    ledger: Ledger, state: State
) -> None:
    take(ledger, "q3", ["a", "b"])
    sent(ledger, "a", submissions.ACCEPTED, "t-failed", failed=True)
    sent(ledger, "a", submissions.ACCEPTED, "t-standing")
    sent(ledger, "a", submissions.UNKNOWN)
    ended(ledger, "a", state)

    set_course(ledger, "q3", CANCELLED)
    done = list(batches(ledger, "q3"))

    assert (sum(one.back for one in done), sum(one.failed for one in done)) == (1, 0)
    back = find(ledger, "a")
    assert (back.state, back.transcription_id, back.polls) == (State.TRANSCRIBING, "t-standing", 0)
    assert back.due_at is not None
    assert back.due_at <= time.time()
    assert history(ledger, "a") == [(state, State.TRANSCRIBING, "cancelled", BY)]


@pytest.mark.parametrize("state", [State.PENDING, State.QUEUED, State.VALIDATED])
def test_one_that_another_running_backfill_asked_for_becomes_that_ones_as_it_is(ledger: Ledger, state: State) -> None:
    take(ledger, "q3", ["a", "b"])
    take(ledger, "q4", ["c", "b", "b"])
    ended(ledger, "b", state, reason=None, due_at=4e9)
    before = find(ledger, "b")
    requested = {name: counts(ledger, name).requested for name in ("q3", "q4")}

    assert cancel(ledger, "q3") == (1, 1)

    after = find(ledger, "b")
    assert (after.backfill, after.backfill_state) == ("q4", RUNNING)
    assert (after.state, after.epoch, after.lane, after.due_at) == (state, before.epoch, before.lane, before.due_at)
    assert history(ledger, "b") == [(state, state, "handed_over", BY)]
    assert {name: counts(ledger, name).requested for name in ("q3", "q4")} == requested
    assert counts(ledger, "q3").shared_by_state == {state: 1}
    assert (counts(ledger, "q4").total, counts(ledger, "q4").duplicates) == (2, 1)
    assert take(ledger, "q4", ["c", "b", "b"]).repeated == 3


def test_a_running_backfill_goes_before_a_paused_one_and_a_cancelled_one_gets_nothing(ledger: Ledger) -> None:
    take(ledger, "q3", ["a", "b", "c"])
    take(ledger, "paused", ["a", "b"])
    take(ledger, "gone", ["c"])
    take(ledger, "q4", ["a"])
    set_course(ledger, "paused", PAUSED)
    set_course(ledger, "gone", CANCELLED)

    assert cancel(ledger, "q3") == (1, 2)

    assert [find(ledger, one).backfill for one in "abc"] == ["q4", "paused", "q3"]
    assert find(ledger, "c").state == State.CANCELLED


def test_backfills_that_want_the_same_are_cancelled_one_after_the_other_until_nobody_wants_it(ledger: Ledger) -> None:
    for name in ("q1", "q2", "q3"):
        take(ledger, name, ["a"])

    assert [cancel(ledger, name) for name in ("q1", "q2", "q3")] == [(0, 1), (0, 1), (1, 0)]

    assert [counts(ledger, name).requested for name in ("q1", "q2", "q3")] == [1, 1, 1]
    assert find(ledger, "a").state == State.CANCELLED


def test_a_cancelled_backfill_takes_nothing_in_even_when_it_is_cancelled_during_the_intake(ledger: Ledger) -> None:
    take(ledger, "q3", ["a"])
    with ledger.write() as tx:
        target = backfills.ensure(tx, "q3", {})
    set_course(ledger, "q3", CANCELLED)

    for intake in (
        lambda tx: backfills.ensure(tx, "q3", {}),
        lambda tx: backfills.add(tx, target, Lane.LIVE, [], by=BY),
    ):
        with pytest.raises(InputError, match="'q3' was cancelled and takes nothing in"), ledger.write() as tx:
            intake(tx)


def test_what_was_cancelled_begins_anew_in_another_backfill_that_asks_for_it(ledger: Ledger) -> None:
    take(ledger, "q3", ["a"])
    cancel(ledger, "q3")

    assert take(ledger, "q4", ["a"]).accepted == 1
    assert (find(ledger, "a").backfill, find(ledger, "a").state) == ("q4", State.PENDING)


def test_a_change_of_course_waits_for_the_intent_that_saw_the_old_one(ledger: Ledger) -> None:
    """So that whoever has paused knows of every POST that still leaves."""
    take(ledger, "q3", ["a"])
    ended(ledger, "a", State.VALIDATED, reason=None)
    ready = find(ledger, "a")

    def intend(tx: Connection) -> bool:
        runs = course.behind(tx, ready.id).state == RUNNING
        return runs and recordings.move(tx, ready, State.SUBMITTING, by=BY, due_at=4e9) is not None

    def pause(tx: Connection) -> Counter[State]:
        assert course.change_state(tx, ready.backfill_id, (RUNNING,), PAUSED)
        return course.counts(tx, ready.backfill_id)

    assert overlapping(ledger, intend, pause) == (True, {State.SUBMITTING: 1})


def test_an_intake_that_notes_a_duplicate_and_a_cancel_do_not_pass_each_other(ledger: Ledger) -> None:
    take(ledger, "q3", ["a"])
    set_course(ledger, "q3", CANCELLED)
    q3 = find(ledger, "a").backfill_id

    def ask(tx: Connection) -> backfills.Intake:
        target = backfills.ensure(tx, "q4", {})
        asked = [backfills.Asked(2, find(ledger, "a").request)]
        return backfills.add(tx, target, Lane.BACKFILL, asked, by=BY)

    def stop(tx: Connection) -> course.Batch:
        return course.cancel_some(tx, q3, State.PENDING, after_id=0, most=500, by=BY)

    asked, stopped = overlapping(ledger, ask, stop)

    assert (asked.duplicates, stopped.handed_over) == (1, 1)
    assert find(ledger, "a").backfill == "q4"


def out_of(ledger: Ledger, names: Sequence[str]) -> list[int]:
    with ledger.read() as tx:
        out = handout.out(tx, Lane.BACKFILL)
        return [out[one].number if (one := id_of(tx, name)) in out else 0 for name in names]


def test_what_a_stopped_backfill_has_out_leaves_the_window_to_the_others(ledger: Ledger) -> None:
    take(ledger, "q3", ["a", "b"])
    take(ledger, "q4", ["c"])
    for media_id in "abc":
        ended(ledger, media_id, State.VALIDATED)

    assert out_of(ledger, ["q3", "q4"]) == [2, 1]
    set_course(ledger, "q3", PAUSED)
    assert out_of(ledger, ["q3", "q4"]) == [0, 1]
