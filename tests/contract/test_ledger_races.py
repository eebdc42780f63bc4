"""Several processes and machines at one ledger: nothing is done twice, nothing gets lost, nobody is locked out."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from tests.contract.test_ledger import FAR, arrival, ask, ask_one, bare_url, history, now
from tests.contract.test_ledger_bounds import MINUTE, bounded, reserve, spent
from tests.support.desk import BY, request
from tests.support.race import PROCESSES, Race, overlapping, processes
from workers.ledger import backfills, events, handout, leases, recordings, submissions
from workers.ledger.engine import Ledger
from workers.ledger.funnel import funnel
from workers.ledger.migrate import head_version, migrate
from workers.ledger.tables import transitions
from workers.model import Lane, State

pytestmark = pytest.mark.both_ledgers

__all__ = ["bare_url"]


@pytest.fixture(scope="module")
def racing() -> Iterator[Race]:
    with processes() as race:
        yield race


def count_up(url: str, times: int, _: int) -> int:
    """Adds to the one recording's attempts by reading first and writing then."""
    ledger = Ledger(url)
    for _ in range(times):
        with ledger.write() as tx:
            recording = recordings.lock(tx, 1)
            assert recording is not None
            assert recordings.amend(tx, recording, attempts=recording.attempts + 1)
            recordings.note(tx, recording, by=BY, reason="counted")
    ledger.close()
    return times


def test_writes_of_several_processes_are_neither_lost_nor_locked_out(
    ledger: Ledger, ledger_url: str, racing: Race
) -> None:
    recording = ask_one(ledger)

    assert racing(partial(count_up, ledger_url, 50)) == [50] * PROCESSES

    assert now(ledger, recording).attempts == 50 * PROCESSES
    assert len(history(ledger, recording)) == 50 * PROCESSES


def take_work(url: str, _: int) -> list[int]:
    ledger = Ledger(url)
    taken: list[int] = []
    while True:
        with ledger.write() as tx:
            got = handout.hand_out(tx, Lane.BACKFILL, 1, 7, by=BY, due_at=FAR)
        if not got:
            ledger.close()
            return taken
        taken += [one.id for one in got]


def test_racing_processes_get_each_row_once(ledger: Ledger, ledger_url: str, racing: Race) -> None:
    asked = ask(ledger, 300)

    taken = racing(partial(take_work, ledger_url))

    assert sorted(one for process in taken for one in process) == [one.id for one in asked]

    with ledger.read() as tx:
        assert tx.execute(select(func.count()).select_from(transitions)).scalar_one() == 300
        assert handout.out(tx, Lane.BACKFILL)[1].number == 300


def take_lease(url: str, number: int) -> bool:
    ledger = Ledger(url)
    with ledger.write() as tx:
        taken = leases.take(tx, "sweep", f"process {number}", 60)
    ledger.close()
    return taken


def test_of_racing_processes_one_gets_the_lease(ledger: Ledger, ledger_url: str, racing: Race) -> None:
    assert sum(racing(partial(take_lease, ledger_url))) == 1


def test_of_racing_processes_one_gets_the_lease_that_has_run_out(ledger: Ledger, ledger_url: str, racing: Race) -> None:
    with ledger.write() as tx:
        leases.take(tx, "sweep", "a dead process", -1)

    assert sum(racing(partial(take_lease, ledger_url))) == 1


def bring_up_to_date(url: str, _: int) -> tuple[str | None, str]:
    ledger = Ledger(url)
    versions = migrate(ledger)
    ledger.close()
    return versions


def test_of_racing_processes_one_migrates_and_the_others_find_it_done(bare_url: str, racing: Race) -> None:
    head = head_version()

    assert sorted(racing(partial(bring_up_to_date, bare_url)), key=str) == [(head, head)] * 3 + [(None, head)]


def take_in(url: str, media_ids: list[str], number: int) -> backfills.Intake:
    asked = [backfills.Asked(line, request(media_id)) for line, media_id in enumerate(media_ids)]
    asked = asked[100 * number :] + asked[: 100 * number]
    if number % 2:
        asked.reverse()
    ledger = Ledger(url)
    with ledger.write() as tx:
        target = backfills.ensure(tx, f"list-{number}", {})
    for start in range(0, len(asked), 100):
        with ledger.write() as tx:
            batch = backfills.add(tx, target, Lane.BACKFILL, asked[start : start + 100], by=BY)
        assert batch.accepted + batch.duplicates == 100
    with ledger.read() as tx:
        found = funnel(tx, target.id)
    ledger.close()
    return backfills.Intake(found.total, found.duplicates, 0)


def test_the_same_requests_in_racing_lists_are_one_recording_each_and_counted_in_every_list(
    ledger: Ledger, ledger_url: str, racing: Race
) -> None:
    media_ids = [f"m-{number}" for number in range(400)]

    taken = racing(partial(take_in, ledger_url, media_ids))

    assert sum(one.accepted for one in taken) == 400
    assert [one.accepted + one.duplicates for one in taken] == [400] * PROCESSES


def store(event: events.Arrival, tx: Connection) -> bool:
    return events.store(tx, event)


def test_the_same_event_in_two_receivers_at_once_is_kept_once(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    kept = overlapping(ledger, *[partial(store, arrival(recording, body)) for body in (b"first", b"second")])

    assert kept == (True, False)
    with ledger.read() as tx:
        assert [one.payload for one in events.waiting(tx, recording.id)] == [b"first"]


def test_an_event_with_a_result_replaces_one_without_that_another_receiver_takes_at_that_moment(
    ledger: Ledger,
) -> None:
    recording = ask_one(ledger)
    without, with_result = arrival(recording, b"without"), arrival(recording, b"with", has_result=True)

    assert overlapping(ledger, partial(store, without), partial(store, with_result)) == (True, True)

    with ledger.read() as tx:
        assert [one.payload for one in events.waiting(tx, recording.id)] == [b"with"]


def test_the_same_event_without_a_recording_in_two_receivers_at_once_is_kept_once(ledger: Ledger) -> None:
    unmatched = arrival(None)

    assert overlapping(ledger, partial(store, unmatched), partial(store, unmatched)) == (True, False)


def settle(submission_id: int, outcome: str, values: dict[str, Any], tx: Connection) -> submissions.Submission:
    return submissions.settle(tx, submission_id, outcome, **values)


@pytest.mark.parametrize("late", ["accepted", "lost"])
def test_an_acceptance_that_meets_a_lesser_outcome_at_the_same_moment_is_recorded(ledger: Ledger, late: str) -> None:
    recording = ask_one(ledger)
    with ledger.write() as tx:
        sent = submissions.open_next(tx, recording.id, callback_ref="c" * 32, epoch=1, request_digest=b"d" * 32)
    lost = partial(settle, sent, submissions.UNKNOWN, {})
    accepted = partial(settle, sent, submissions.ACCEPTED, {"transcription_id": "t-1"})

    overlapping(ledger, *((lost, accepted) if late == "accepted" else (accepted, lost)))

    with ledger.read() as tx:
        settled = submissions.get(tx, sent)
    assert (settled.outcome, settled.transcription_id) == (submissions.ACCEPTED, "t-1")


def move(recording_id: int, to: State, tx: Connection) -> bool:
    with_due = {"due_at": FAR} if to == State.QUEUED else {}
    seen = recordings.get(tx, recording_id)
    assert seen is not None
    return seen.state == State.PENDING and recordings.move(tx, seen, to, by=BY, **with_due) is not None


def test_of_two_moves_of_a_recording_at_once_one_is_made(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    made = overlapping(ledger, partial(move, recording.id, State.CANCELLED), partial(move, recording.id, State.QUEUED))

    assert made == (True, False)
    assert history(ledger, recording) == [("pending", "cancelled")]


def spend(url: str, each: int, number: int) -> int:
    """How many of its own recordings a process may submit."""
    ledger = Ledger(url)
    granted = 0
    for one in range(each):
        with ledger.write() as tx:
            granted += reserve(tx, 1 + number * each + one)
    ledger.close()
    return granted


@pytest.mark.parametrize("bounds", [{"max_recordings": 50}, {"max_audio_seconds": 50 * MINUTE + 1}])
def test_however_many_processes_spend_at_once_a_cap_is_used_up_and_not_passed(
    bounds: dict[str, float], ledger: Ledger, ledger_url: str, racing: Race
) -> None:
    backfill_id = bounded(ledger, PROCESSES * 25, **bounds)

    granted = racing(partial(spend, ledger_url, 25))

    assert sum(granted) == 50
    now = spent(ledger, backfill_id)
    assert (now.recordings, now.audio_seconds) == (50, 50 * MINUTE)
