"""What SQLite, which has no statistics, looks up in which index: with a million recordings the wrong one is slow."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event

from tests.support.desk import BY, request
from workers.ledger import (
    backfills,
    canaries,
    comparing,
    course,
    events,
    funnel,
    handout,
    listing,
    recordings,
    transcripts,
)
from workers.ledger.engine import Ledger
from workers.model import Lane, Reason, State

Steps = Callable[[Callable[[Connection], object]], set[str]]


@pytest.fixture
def steps(ledger: Ledger) -> Iterator[Steps]:
    """The steps in which the statements about recordings and events that something runs are answered."""
    ran: list[tuple[str, Any]] = []

    def keep(_1: object, _2: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT") and (" recordings" in statement or " events" in statement):
            ran.append((statement, parameters))

    def explain(look: Callable[[Connection], object]) -> set[str]:
        with ledger.write() as tx:
            ran.clear()
            look(tx)
            statements = list(ran)
            plans = [tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}", values).all() for one, values in statements]
        assert plans
        return {row[3] for plan in plans for row in plan}

    with ledger.write() as tx:
        asked = [backfills.Asked(1, request("m-1"))]
        backfills.add(tx, backfills.ensure(tx, "q3", {}), Lane.BACKFILL, asked, by=BY)
    event.listen(ledger.engine, "before_cursor_execute", keep)
    yield explain
    event.remove(ledger.engine, "before_cursor_execute", keep)


def searched(how: str) -> str:
    return f"SEARCH recordings USING {how}"


def test_counts_come_from_indexes_alone(steps: Steps) -> None:
    assert {
        searched("COVERING INDEX recordings_by_backfill (backfill_id=?)"),
        searched("COVERING INDEX recordings_by_reason (backfill_id=?)"),
    } <= steps(lambda tx: funnel.funnel(tx, 1))
    assert steps(lambda tx: funnel.speed(tx, 1)) == {searched("INDEX recordings_accepted (backfill_id=?)")}
    assert steps(lambda tx: funnel.running_with(tx, [State.PENDING, State.QUEUED])) == {
        searched("COVERING INDEX recordings_by_backfill (backfill_id=? AND state=?)")
    }


@pytest.mark.parametrize("reason", [Reason.REQUEST_REFUSED, None])
def test_examples_are_the_first_of_their_index(steps: Steps, reason: Reason | None) -> None:
    assert steps(lambda tx: funnel.examples(tx, 1, State.FAILED, reason)) == {
        searched("INDEX recordings_by_reason (backfill_id=? AND state=? AND reason=?)")
    }


def test_a_page_of_a_list_begins_where_the_last_one_ended(steps: Steps) -> None:
    every = steps(lambda tx: listing.own(tx, 1, tuple(State), None, after=-1))
    failed = steps(lambda tx: listing.own(tx, 1, (State.FAILED,), Reason.OVERDUE, after=-1))

    assert searched("COVERING INDEX recordings_by_backfill (backfill_id=? AND state=? AND id>?)") in every
    assert searched("COVERING INDEX recordings_by_reason (backfill_id=? AND state=? AND reason=? AND id>?)") in failed
    assert [step for step in every | failed if step.startswith("SCAN recordings")] == []


def test_the_pump_looks_for_a_lane_among_what_is_pending_in_it(steps: Steps) -> None:
    by_lane = searched("INDEX recordings_to_pump (lane=? AND backfill_id=?)")

    assert by_lane in steps(lambda tx: handout.waiting_backfills(tx, Lane.LIVE))
    assert by_lane in steps(lambda tx: handout.hand_out(tx, Lane.BACKFILL, 1, 10, by=BY, due_at=1.0))


def test_a_canary_is_chosen_and_looked_at_without_going_through_what_waits(steps: Steps) -> None:
    waiting = searched("COVERING INDEX recordings_by_backfill (backfill_id=? AND state=?)")
    by_id = searched("INTEGER PRIMARY KEY (rowid=?)")

    assert waiting in steps(lambda tx: canaries.rest_waits(tx, 1))
    for look in (lambda tx: canaries.tally(tx, 1, 20), lambda tx: canaries.ready(tx, 1, Lane.BACKFILL, 1.0)):
        assert by_id in steps(look)


def test_what_has_a_say_in_an_intent_is_looked_up_by_its_id(steps: Steps) -> None:
    assert steps(lambda tx: course.behind(tx, 1)) >= {searched("INTEGER PRIMARY KEY (rowid=?)")}


def test_what_a_canary_hands_out_is_looked_up_by_id(steps: Steps) -> None:
    found = steps(lambda tx: handout.hand_out(tx, Lane.BACKFILL, 1, 10, by=BY, due_at=1.0, only=[1]))

    assert searched("INTEGER PRIMARY KEY (rowid=?)") in found
    assert searched("INDEX recordings_to_pump (lane=?)") not in found


def test_recordings_are_gone_through_by_ref_without_sorting_them(steps: Steps) -> None:
    assert steps(lambda tx: comparing.indexed(tx, after_ref="a", most=500)) == {
        searched("INDEX sqlite_autoindex_recordings_2 (ref>?)")
    }
    assert searched("INDEX sqlite_autoindex_recordings_2 (ref=?)") in steps(
        lambda tx: comparing.by_refs(tx, ["a", "b"])
    )


def test_what_is_due_is_found_among_what_the_sweep_looks_at(steps: Steps) -> None:
    due = steps(lambda tx: recordings.due(tx, State.COMPLETED, 1.0, 20))

    assert searched("INDEX recordings_to_sweep (state=? AND due_at<?)") in due
    assert not [step for step in due if step.startswith(("SCAN", "USE"))]
    assert steps(lambda tx: recordings.is_any_due(tx, State.COMPLETED, 1.0)) == {
        searched("COVERING INDEX recordings_to_sweep (state=? AND due_at<?)")
    }


def test_what_has_come_is_found_among_what_waits(steps: Steps) -> None:
    waiting = "SCAN events USING INDEX events_waiting"
    by_id = searched("INTEGER PRIMARY KEY (rowid=?)")

    assert steps(events.is_any_waiting) == {waiting}
    assert {waiting, by_id} <= steps(lambda tx: events.lock_waiting(tx, 20))


def test_transcripts_are_gone_through_from_where_the_last_batch_ended(steps: Steps) -> None:
    every = steps(lambda tx: transcripts.batch(tx, after_id=7, most=100))
    own = steps(lambda tx: transcripts.batch_of(tx, 1, after_id=7, most=100))

    assert "SEARCH transcripts USING INTEGER PRIMARY KEY (rowid>?)" in every
    assert searched("INDEX recordings_by_backfill (backfill_id=? AND state=? AND id>?)") in own
    assert [step for step in every | own if step.startswith(("SCAN", "USE TEMP"))] == []
