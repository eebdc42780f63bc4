"""A plan counts what intake then really does, whatever the ledger holds already, and writes nothing."""

import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from tests.support.desk import BY, request
from tests.support.postgres import Postgres
from workers.intake.manifest import Row
from workers.ledger import backfills, recordings, submissions
from workers.ledger.engine import Ledger
from workers.ledger.tables import backfills as backfills_table
from workers.ledger.tables import duplicates, transitions
from workers.ledger.tables import recordings as table
from workers.model import Lane, State
from workers.pipeline.batches import Batches, Taken
from workers.pipeline.enqueue import _entry
from workers.pipeline.plan import Found, Sample, look_through

ENDED = (State.REJECTED, State.FAILED, State.CANCELLED, State.INDEXED, State.PARKED)

media = st.sampled_from(["a", "b", "c", "d", "e"])
names = st.sampled_from(["q1", "q2"])
lines = st.lists(st.one_of(media, st.none()), max_size=9)
sending = st.tuples(names, lines)
#: How a recording ended, and whether something may have been accepted for it.
ending = st.tuples(media, st.sampled_from(ENDED), st.sampled_from(["unpaid", "accepted", "doubtful"]))


@pytest.fixture
def empty_again(request: pytest.FixtureRequest, ledger_url: str, empty_ledger: Path) -> Callable[[], str]:
    """Empties the test's ledger, which nobody has open, and gives its URL."""
    if ledger_url.startswith("sqlite"):
        return lambda: f"sqlite:///{shutil.copy(empty_ledger, ledger_url.removeprefix('sqlite:///'))}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty_ledger


def rows_of(wanted: list[str | None]) -> list[Row]:
    """The rows of a list, from line 2; None is a line that can't be used."""
    return [
        Row(line, "", request(one) if one else None, None if one else "media_id: missing, and needed", (), ())
        for line, one in enumerate(wanted, 2)
    ]


def plan(ledger: Ledger, name: str, wanted: list[str | None]) -> Found:
    with ledger.read() as tx:
        target = backfills.by_name(tx, name)
    return last(look_through(ledger, target, rows_of(wanted), Sample(0)))


def last(told: Iterator[Found]) -> Found:
    """What it told at the end; nothing of an empty list."""
    return deque(chain([Found()], told), maxlen=1).pop()


def run(ledger: Ledger, name: str, wanted: list[str | None]) -> Taken:
    with ledger.write() as tx:
        target = backfills.ensure(tx, name, {})
    batches = Batches(ledger, target, Lane.BACKFILL, by=BY)
    for _ in batches.take(map(_entry, rows_of(wanted))):
        pass
    return batches.taken


def end(ledger: Ledger, media_id: str, state: State, paid: str) -> None:
    with ledger.write() as tx:
        one = recordings.by_fingerprint(tx, request(media_id).fingerprint())
        if one is None:
            return
        if paid == "doubtful":
            sent = submissions.open_next(tx, one.id, callback_ref=uuid.uuid4().hex, epoch=1, request_digest=b"")
            submissions.settle(tx, sent, submissions.UNKNOWN)
        values = {"state": state, "due_at": None, "epoch": one.epoch + 1} | (
            {"accepted_at": 1.0} if paid == "accepted" else {}
        )
        tx.execute(table.update().where(table.c.id == one.id).values(**values))


def content(ledger: Ledger) -> list[Any]:
    """How many rows there are, and what changed in recordings."""
    with ledger.read() as tx:
        counts = [
            tx.execute(select(func.count()).select_from(one)).scalar_one()
            for one in (backfills_table, table, duplicates, transitions)
        ]
        return [*counts, tx.execute(select(table.c.id, table.c.state, table.c.backfill_id)).all()]


def counted(found: Found) -> Taken:
    return Taken(
        accepted=found.new,
        duplicates=found.duplicates_in_list + found.duplicates.total(),
        repeated=found.repeated.total(),
        rejected=found.unusable.number,
    )


@pytest.mark.both_ledgers
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# The list was another one before: what ended unpaid in it does not begin anew in it, and a line that was a duplicate
# then is known, though the line before it has the same recording begin anew.
@example(before=[("q1", ["a"]), ("a", State.CANCELLED, "unpaid")], name="q1", wanted=["b", "a"])
@example(
    before=[("q2", ["a"]), ("q1", ["b", "a"]), ("a", State.FAILED, "unpaid")],
    name="q1",
    wanted=["a", "a"],
)
@given(before=st.lists(st.one_of(sending, ending), max_size=6), name=names, wanted=lines)
def test_a_plan_counts_what_intake_then_does_and_changes_nothing(
    empty_again: Callable[[], str], before: list[Any], name: str, wanted: list[str | None]
) -> None:
    with closing(Ledger(empty_again())) as ledger:
        for step in before:
            if len(step) == 2:
                run(ledger, *step)
            else:
                end(ledger, *step)
        untouched = content(ledger)

        planned = plan(ledger, name, wanted)

        assert content(ledger) == untouched
        assert planned.entries == len(wanted)
        assert counted(planned) == run(ledger, name, wanted)

        again = plan(ledger, name, wanted)

        assert again.new == 0
        assert counted(again) == run(ledger, name, wanted)


def test_a_list_longer_than_a_batch_is_compared_with_all_of_itself(ledger: Ledger) -> None:
    wanted: list[str | None] = [f"m-{number % 2500}" for number in range(4500)]

    planned = plan(ledger, "q1", wanted)

    assert (planned.new, planned.duplicates_in_list) == (2500, 2000)
    assert counted(planned) == run(ledger, "q1", wanted)


def test_where_there_is_no_ledger_all_is_new_but_what_is_there_twice() -> None:
    found = last(look_through(None, None, rows_of(["a", "b", "a", None, "b"]), Sample(0)))

    assert counted(found) == Taken(accepted=2, duplicates=2, repeated=0, rejected=1)


def test_what_began_anew_and_the_states_of_duplicates_are_told(ledger: Ledger) -> None:
    run(ledger, "q1", ["a", "b", "c", "d"])
    for media_id, state in (("a", State.CANCELLED), ("b", State.INDEXED), ("c", State.PARKED)):
        end(ledger, media_id, state, "unpaid")

    elsewhere, same = plan(ledger, "q2", ["a", "b", "c", "d", "e"]), plan(ledger, "q1", ["a", "b"])

    assert (elsewhere.new, elsewhere.begin_anew) == (2, 1)
    assert elsewhere.duplicates == {State.INDEXED: 1, State.PARKED: 1, State.PENDING: 1}
    assert (same.new, same.repeated) == (0, {State.CANCELLED: 1, State.INDEXED: 1})
