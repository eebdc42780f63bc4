"""What bounds a backfill in the ledger: what counts against a cap and what does not, and canaries."""

import uuid

import pytest
from sqlalchemy import Connection

from tests.contract.test_ledger_intake import ended, find, take
from tests.support.desk import BY
from tests.support.race import overlapping
from workers.errors import InputError
from workers.ledger import backfills, canaries, course, handout, recordings, spending
from workers.ledger.engine import Ledger
from workers.ledger.spending import Spending
from workers.ledger.tables import PAUSED, RUNNING
from workers.ledger.tables import recordings as table
from workers.model import Bounds, Lane, State

pytestmark = pytest.mark.both_ledgers

MINUTE = 60.0


def bounded(ledger: Ledger, number: int, seconds: float = MINUTE, **bounds: object) -> int:
    """A backfill q3 with bounds and so many recordings, each so long; gives its id."""
    with ledger.write() as tx:
        made = backfills.ensure(tx, "q3", {}, Bounds(**bounds))  # type: ignore[arg-type]
    take(ledger, "q3", [f"m-{one}" for one in range(number)])
    with ledger.write() as tx:
        tx.execute(table.update().values(duration_seconds=seconds))
    return made.id


def spent(ledger: Ledger, backfill_id: int = 1) -> Spending:
    with ledger.read() as tx:
        found = spending.of(tx, backfill_id)
    assert found is not None
    return found


def reserve(tx: Connection, recording_id: int, epoch: int = 1) -> bool:
    """As an intent does it."""
    recording = recordings.get(tx, recording_id)
    assert recording is not None
    behind = course.behind(tx, recording_id)
    return behind.state == RUNNING and spending.reserve(tx, recording, behind.id, epoch)


def test_a_change_of_course_for_a_cap_waits_for_who_is_about_to_count(ledger: Ledger) -> None:
    backfill_id = bounded(ledger, 1, max_recordings=1)

    def pause(tx: Connection) -> int:
        course.hold(tx, backfill_id)
        found = spending.of(tx, backfill_id)
        assert found is not None
        return found.recordings

    assert overlapping(ledger, lambda tx: reserve(tx, 1), pause) == (True, 1)


def test_what_is_given_back_is_given_back_once_and_to_who_counted_it(ledger: Ledger) -> None:
    bounded(ledger, 2, max_recordings=2)
    with ledger.write() as tx:
        assert reserve(tx, 1, epoch=1)
        assert reserve(tx, 1, epoch=3)
        assert not reserve(tx, 2)
        tx.execute(table.update().values(duration_seconds=2 * MINUTE))
        other = backfills.ensure(tx, "q4", {}, Bounds(max_recordings=5))
        tx.execute(table.update().where(table.c.id == 1).values(backfill_id=other.id))

    for _ in range(2):
        with ledger.write() as tx:
            spending.give_back(tx, 1, 3)

    assert (spent(ledger).recordings, spent(ledger).audio_seconds) == (1, MINUTE)
    assert spent(ledger, other.id).recordings == 0
    with ledger.write() as tx:
        assert reserve(tx, 2)


def test_what_was_accepted_all_the_same_counts_whatever_the_cap_says(ledger: Ledger) -> None:
    bounded(ledger, 2, max_recordings=1)
    with ledger.write() as tx:
        assert reserve(tx, 1, epoch=1)
        spending.give_back(tx, 1, 1)
        assert reserve(tx, 2)

    for _ in range(2):
        with ledger.write() as tx:
            spending.count_again(tx, find(ledger, "m-0"), 1)

    assert spent(ledger).recordings == 2


def test_without_a_cap_nothing_is_counted(ledger: Ledger) -> None:
    backfill_id = bounded(ledger, 1, canary=1)

    with ledger.write() as tx:
        assert not course.behind(tx, 1).counted
        assert spending.of(tx, backfill_id) is None
        spending.count_again(tx, find(ledger, "m-0"), 1)
        spending.give_back(tx, 1, 1)


def test_audio_that_does_not_fit_is_not_counted_and_a_shorter_one_may_fit(ledger: Ledger) -> None:
    backfill_id = bounded(ledger, 2, max_audio_seconds=100)
    with ledger.write() as tx:
        assert reserve(tx, 1)
        assert not reserve(tx, 2)
        spending.wait_for(tx, backfill_id, MINUTE)

    assert spent(ledger).reached == spending.MAX_AUDIO
    with ledger.write() as tx:
        spending.set_caps(tx, backfill_id, max_audio_seconds=2 * MINUTE)
    assert spent(ledger).reached is None


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (Bounds(max_recordings=5), "with --max-recordings 3, not 5"),
        (Bounds(max_audio_seconds=3600.0), "with --max-audio-hours 1.5, not 1"),
        (Bounds(canary=4), "without --canary, not 4"),
        (Bounds(only_between="20:00-06:00 UTC"), "without --only-between, not 20:00-06:00 UTC"),
    ],
)
def test_other_bounds_for_an_existing_name_are_refused_and_none_are_none_of_it(
    bounds: Bounds, said: str, ledger: Ledger
) -> None:
    with ledger.write() as tx:
        first = Bounds(max_recordings=3, max_audio_seconds=5400.0)
        made = backfills.ensure(tx, "q3", {}, first)

    with ledger.write() as tx:
        assert backfills.ensure(tx, "q3", {}) == backfills.ensure(tx, "q3", {}, first) == made
    with pytest.raises(InputError, match=f"Backfill 'q3' exists {said}"), ledger.write() as tx:
        backfills.ensure(tx, "q3", {}, bounds)


def enrolled(ledger: Ledger, most: int) -> list[int]:
    with ledger.write() as tx:
        course.hold(tx, 1)
        canaries.enrol(tx, 1, most)
    with ledger.read() as tx:
        return sorted(canaries.ready(tx, 1, Lane.BACKFILL, 4e9))


def tally(ledger: Ledger, size: int = 3) -> canaries.Tally:
    with ledger.read() as tx:
        return canaries.tally(tx, 1, size)


def test_a_canary_is_the_first_of_what_waits_each_once(ledger: Ledger) -> None:
    bounded(ledger, 5, canary=3)
    ended(ledger, "m-0", State.INDEXED)

    assert enrolled(ledger, 1) == [2]
    assert enrolled(ledger, 2) == [2, 3, 4]
    assert enrolled(ledger, 9) == [2, 3, 4, 5]
    with ledger.read() as tx:
        assert not canaries.rest_waits(tx, 1)
        assert (canaries.has(tx, 1, 2), canaries.has(tx, 1, 1)) == (True, False)


def test_what_failed_is_told_by_reason_and_what_left_or_stopped_says_nothing(ledger: Ledger) -> None:
    bounded(ledger, 7, canary=7)
    enrolled(ledger, 7)
    ends = (State.INDEXED, State.COMPLETED, State.REJECTED, State.UNKNOWN, State.CANCELLED)
    for number, state in enumerate(ends):
        ended(ledger, f"m-{number}", state)
    with ledger.write() as tx:
        other = backfills.ensure(tx, "q4", {}).id
    ended(ledger, "m-5", State.PARKED, backfill_id=other)

    now = tally(ledger, 5)

    assert (now.well, now.failures, now.ended, now.members) == (2, 2, 4, 5)
    assert now.failed == {(State.REJECTED, "a_reason"): 1, (State.UNKNOWN, "a_reason"): 1}
    assert now.under_way == {State.PENDING: 1}
    assert not now.is_over


@pytest.mark.parametrize(
    ("members", "failures", "good"), [(20, 1, True), (20, 2, False), (19, 1, False), (40, 2, True), (1, 0, True)]
)
def test_at_most_one_in_twenty_may_fail(members: int, failures: int, good: bool) -> None:
    failed = {(State.FAILED, None): failures} if failures else {}
    now = canaries.Tally(members, failed, {}, members - failures)

    assert (now.is_over, now.is_good) == (True, good)


def test_a_canary_that_is_not_complete_is_not_over() -> None:
    assert not canaries.Tally(20, {}, {}, 19).is_over


def test_only_the_canary_is_handed_out_when_only_it_is_wanted(ledger: Ledger) -> None:
    bounded(ledger, 4, canary=2)
    only = enrolled(ledger, 2)

    with ledger.write() as tx:
        first = handout.hand_out(tx, Lane.BACKFILL, 1, 3, by=BY, due_at=4e9, only=only)
        again = handout.hand_out(tx, Lane.BACKFILL, 1, 3, by=BY, due_at=4e9, only=only)

    assert ([one.id for one in first], again) == ([1, 2], [])


def test_who_is_paused_for_a_cap_is_known_by_it(ledger: Ledger) -> None:
    backfill_id = bounded(ledger, 1, max_recordings=1)
    with ledger.write() as tx:
        other = backfills.ensure(tx, uuid.uuid4().hex, {}).id
        course.change_state(tx, other, (RUNNING,), PAUSED)
        why = {"paused_for": spending.MAX_RECORDINGS, "detail": "it is reached"}
        assert course.change_state(tx, backfill_id, (RUNNING,), PAUSED, **why)

    with ledger.write() as tx:
        assert spending.paused(tx) == [backfill_id]
        found = backfills.get(tx, backfill_id)
        assert (found.paused_for, found.paused_detail) == (spending.MAX_RECORDINGS, "it is reached")
        assert course.change_state(tx, backfill_id, (PAUSED,), RUNNING)
        assert backfills.get(tx, backfill_id).paused_for is None
