"""What backfills ask for: one recording a request, duplicates counted, and nothing lost on the way into the sums."""

import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from tests.support.desk import BY, request
from tests.support.postgres import Postgres
from workers.errors import InputError
from workers.ledger import backfills, recordings
from workers.ledger.backfills import Asked, Intake, Refused
from workers.ledger.engine import Ledger
from workers.ledger.funnel import Funnel, funnel
from workers.ledger.tables import recordings as table
from workers.model import Lane, Recording, State

pytestmark = pytest.mark.both_ledgers


def take(ledger: Ledger, backfill: str, media_ids: Sequence[str], lane: Lane = Lane.BACKFILL, first: int = 2) -> Intake:
    """Takes a list in as its lines, beginning with line `first`."""
    asked = [Asked(line, request(media_id)) for line, media_id in enumerate(media_ids, first)]
    with ledger.write() as tx:
        return backfills.add(tx, backfills.ensure(tx, backfill, {}), lane, asked, by=BY)


def counts(ledger: Ledger, backfill: str) -> Funnel:
    with ledger.write() as tx:
        return funnel(tx, backfills.ensure(tx, backfill, {}).id)


def find(ledger: Ledger, media_id: str) -> Recording:
    with ledger.read() as tx:
        (found,) = recordings.find(tx, media_id)
    return found


def ended(ledger: Ledger, media_id: str, state: State, **columns: Any) -> None:
    """Puts the recording into a state as if it had come there."""
    with ledger.write() as tx:
        values = {"state": state, "reason": "a_reason", "due_at": 4e9, **columns}
        tx.execute(table.update().where(table.c.media_id == media_id).values(**values))


def test_new_requests_become_pending_recordings_with_refs_of_their_own(ledger: Ledger) -> None:
    assert take(ledger, "q3", ["a", "b"]) == Intake(accepted=2, duplicates=0, repeated=0)

    first, second = find(ledger, "a"), find(ledger, "b")
    assert (first.state, first.backfill) == (State.PENDING, "q3")
    assert first.ref != second.ref


def test_the_refs_of_a_batch_are_random_uuids_of_version_4(ledger: Ledger) -> None:
    take(ledger, "q3", [f"call-{number}" for number in range(1001)])

    with ledger.read() as tx:
        refs = list(tx.execute(select(table.c.ref).order_by(table.c.id)).scalars())
    assert len(set(refs)) == 1001
    made = [uuid.UUID(hex=ref) for ref in refs]
    assert {(one.version, one.variant) for one in made} == {(4, uuid.RFC_4122)}
    assert [one.hex for one in made] == refs


def test_recordings_are_numbered_in_the_order_of_their_list(ledger: Ledger) -> None:
    wanted = [f"call-{number * 7919 % 1001}" for number in range(1001)]
    take(ledger, "q3", wanted)

    with ledger.read() as tx:
        assert list(tx.execute(select(table.c.media_id).order_by(table.c.id)).scalars()) == wanted


def test_a_request_twice_in_a_list_is_one_recording_and_one_duplicate(ledger: Ledger) -> None:
    assert take(ledger, "q3", ["a", "b", "a", "a"]) == Intake(accepted=2, duplicates=2, repeated=0)
    assert counts(ledger, "q3").duplicates_by_state == {"pending": 2}


def test_the_same_media_in_other_languages_is_another_request(ledger: Ledger) -> None:
    asked = [Asked(2, request("a")), Asked(3, request("a", languages=("de-DE",)))]
    with ledger.write() as tx:
        result = backfills.add(tx, backfills.ensure(tx, "q3", {}), Lane.BACKFILL, asked, by=BY)

    assert result.accepted == 2


def test_the_same_list_again_adds_nothing(ledger: Ledger) -> None:
    take(ledger, "q3", ["a", "b", "a"])
    before = counts(ledger, "q3")

    assert take(ledger, "q3", ["a", "b", "a"]) == Intake(accepted=0, duplicates=0, repeated=3)
    assert counts(ledger, "q3") == before


@pytest.mark.parametrize("state", [State.PENDING, State.QUEUED, State.TRANSCRIBING, State.PARKED, State.INDEXED])
def test_what_is_under_way_or_done_elsewhere_is_a_duplicate_that_shows_its_state(ledger: Ledger, state: State) -> None:
    take(ledger, "q2", ["a"])
    ended(ledger, "a", state)

    assert take(ledger, "q3", ["a"]) == Intake(accepted=0, duplicates=1, repeated=0)
    assert find(ledger, "a").backfill == "q2"
    assert counts(ledger, "q3").shared_by_state == {state: 1}


@pytest.mark.parametrize("state", [State.REJECTED, State.FAILED, State.CANCELLED])
def test_what_ended_unpaid_elsewhere_begins_anew_where_it_is_asked_for_now(ledger: Ledger, state: State) -> None:
    take(ledger, "q2", ["a"])
    ended(ledger, "a", state, attempts=3, due_at=None)
    before = find(ledger, "a")

    assert take(ledger, "q3", ["a"]) == Intake(accepted=1, duplicates=0, repeated=0)

    after = find(ledger, "a")
    assert (after.backfill, after.state, after.attempts, after.reason) == ("q3", State.PENDING, 0, None)
    assert after.epoch > before.epoch
    assert after.due_at is not None
    with ledger.read() as tx:
        assert recordings.history(tx, after.id)[-1]["to_state"] == State.PENDING
    assert counts(ledger, "q2").duplicates == 1


def test_what_failed_elsewhere_after_it_was_accepted_does_not_begin_anew(ledger: Ledger) -> None:
    take(ledger, "q2", ["a"])
    ended(ledger, "a", State.FAILED, accepted_at=1.0)

    assert take(ledger, "q3", ["a"]) == Intake(accepted=0, duplicates=1, repeated=0)
    assert find(ledger, "a").state == State.FAILED


def test_what_ended_in_the_same_backfill_does_not_begin_anew_by_sending_its_list_again(ledger: Ledger) -> None:
    take(ledger, "q3", ["a"])
    ended(ledger, "a", State.REJECTED)

    take(ledger, "q3", ["a"])
    take(ledger, "q3", ["a"], first=9)

    assert find(ledger, "a").state == State.REJECTED


def test_a_recording_that_waits_and_is_now_asked_for_live_moves_up(ledger: Ledger) -> None:
    take(ledger, "q3", ["a", "b"])
    ended(ledger, "b", State.QUEUED)

    take(ledger, "calls", ["a", "b"], Lane.LIVE)

    assert find(ledger, "a").lane == Lane.LIVE
    assert find(ledger, "b").lane == Lane.BACKFILL


def test_a_recording_that_waits_live_does_not_move_down(ledger: Ledger) -> None:
    take(ledger, "calls", ["a"], Lane.LIVE)
    take(ledger, "q3", ["a"])

    assert find(ledger, "a").lane == Lane.LIVE


def test_other_options_for_a_name_that_exists_are_refused_by_name(ledger: Ledger) -> None:
    with ledger.write() as tx:
        backfills.ensure(tx, "q3", {"languages": ["en-US"]})

    refused = pytest.raises(InputError, match=r"'q3' exists with languages \['en-US'\], not \['de-DE'\]")
    with refused, ledger.write() as tx:
        backfills.ensure(tx, "q3", {"languages": ["de-DE"]})


def test_refused_entries_are_kept_once_and_cut_at_200_characters(ledger: Ledger) -> None:
    refused = [Refused(2, "x" * 500, "media_id: missing")]
    for _ in range(2):
        with ledger.write() as tx:
            backfills.refuse(tx, backfills.ensure(tx, "q3", {}), refused)

    assert counts(ledger, "q3").intake_rejects == 1
    with ledger.read() as tx:
        assert len(tx.exec_driver_sql("SELECT raw FROM intake_rejects").scalar_one()) == 200


def test_reasons_and_empty_transcripts_are_counted_beside_the_states(ledger: Ledger) -> None:
    take(ledger, "q3", ["a", "b", "c", "d"])
    ended(ledger, "a", State.REJECTED, reason="media_not_found")
    ended(ledger, "b", State.REJECTED, reason="codec_missing")
    ended(ledger, "c", State.INDEXED, reason="empty")

    found = counts(ledger, "q3")

    assert found.reasons == {"rejected": {"media_not_found": 1, "codec_missing": 1}}
    assert found.empty == 1
    assert found.states == {"rejected": 2, "indexed": 1, "pending": 1}


@pytest.fixture
def empty_again(request: pytest.FixtureRequest, ledger_url: str, empty_ledger: Path) -> Callable[[], str]:
    """Empties the test's ledger, which nobody has open, and gives its URL."""
    if ledger_url.startswith("sqlite"):
        return lambda: f"sqlite:///{shutil.copy(empty_ledger, ledger_url.removeprefix('sqlite:///'))}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty_ledger


media = st.sampled_from(["a", "b", "c", "d", "e"])
lines = st.lists(st.one_of(media, st.none()), max_size=8)
sending = st.tuples(st.sampled_from(["q1", "q2"]), lines, st.sampled_from(Lane))
ending = st.tuples(media, st.sampled_from([State.REJECTED, State.FAILED, State.CANCELLED, State.INDEXED]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(sending, ending), max_size=6))
def test_each_entry_asked_for_is_in_exactly_one_place_of_the_funnel(
    empty_again: Callable[[], str], steps: list[Any]
) -> None:
    asked = {"q1": 0, "q2": 0}
    distinct: set[str] = set()
    with closing(Ledger(empty_again())) as ledger:
        for step in steps:
            if len(step) == 2:
                ended(ledger, *step)
                continue
            name, wanted, lane = step
            entries = list(enumerate(wanted, asked[name]))
            asked[name] += len(wanted)
            distinct |= {one for one in wanted if one is not None}
            good = [Asked(entry, request(one)) for entry, one in entries if one is not None]
            bad = [Refused(entry, "?", "missing") for entry, one in entries if one is None]
            for again in (False, True):
                with ledger.write() as tx:
                    target = backfills.ensure(tx, name, {})
                    result = backfills.add(tx, target, lane, good, by=BY)
                    backfills.refuse(tx, target, bad)
                assert result.accepted + result.duplicates + result.repeated == len(good)
                assert not again or result.repeated == len(good)
        found = {name: counts(ledger, name) for name in asked}
        with ledger.read() as tx:
            rows = tx.execute(select(func.count()).select_from(table)).scalar_one()

    assert rows == len(distinct) == sum(one.total for one in found.values())
    for name, number in asked.items():
        assert found[name].requested == number
