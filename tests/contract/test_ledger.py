"""The ledger, over SQLite and over PostgreSQL: schema, moves, hand-out, leases and inbox."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tests.support.desk import BY, request
from tests.support.postgres import Postgres
from workers.errors import LedgerError, LedgerUnavailable, TransitionNotAllowed
from workers.ledger import backfills, events, handout, leases, recordings, transcripts
from workers.ledger.engine import Ledger
from workers.ledger.migrate import check_version, current_version, head_version, migrate
from workers.ledger.states import ACTIVE
from workers.ledger.tables import metadata
from workers.ledger.tables import recordings as table
from workers.model import Lane, Recording, State, Transcript

pytestmark = pytest.mark.both_ledgers

FAR = 4e9


def ask(ledger: Ledger, count: int = 1, *, backfill: str = "q3", lane: Lane = Lane.BACKFILL) -> list[Recording]:
    asked = [backfills.Asked(n, request(f"{backfill}-{n}")) for n in range(count)]
    with ledger.write() as tx:
        backfills.add(tx, backfills.ensure(tx, backfill, {}), lane, asked, by=BY)
        return [recordings.from_row(row) for row in tx.execute(recordings.query().order_by(table.c.id)).mappings()]


def ask_one(ledger: Ledger) -> Recording:
    return ask(ledger)[0]


def now(ledger: Ledger, recording: Recording) -> Recording:
    with ledger.read() as tx:
        found = recordings.get(tx, recording.id)
    assert found is not None
    return found


def history(ledger: Ledger, recording: Recording) -> list[tuple[str, str]]:
    with ledger.read() as tx:
        return [(row["from_state"], row["to_state"]) for row in recordings.history(tx, recording.id)]


@pytest.fixture
def bare_url(ledger_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A ledger that nobody has migrated yet."""
    if ledger_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path}/bare.sqlite3"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


def test_migrations_lead_to_the_tables_of_the_code(ledger: Ledger) -> None:
    with ledger.read() as tx:
        difference = compare_metadata(MigrationContext.configure(tx, opts={"compare_type": True}), metadata)

    assert difference == []


def test_checks_and_partial_indexes_of_the_migrations_are_those_of_the_code(ledger: Ledger, bare_url: str) -> None:
    # Alembic compares neither of them.
    fresh = Ledger(bare_url)
    with fresh.write() as tx:
        metadata.create_all(tx)
        expected = schema(tx)
    with ledger.read() as tx:
        assert schema(tx) == expected
    assert len(expected) >= 5
    fresh.close()


def schema(tx: Connection) -> set[str]:
    """The named checks of tables, and the partial indexes."""
    if tx.dialect.name == "postgresql":
        checks = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'active_is_due'"
        indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexdef LIKE '%WHERE%'"
        return set(tx.exec_driver_sql(f"{checks} UNION ALL {indexes.replace('%', '%%')}").scalars())
    statements = tx.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").scalars().all()
    lines = {" ".join(line.split()).rstrip(",") for one in statements for line in one.splitlines()}
    named = {line for line in lines if line.startswith("CONSTRAINT") and "CHECK" in line}
    return named | {" ".join(one.split()) for one in statements if " WHERE " in one}


def test_migrating_again_changes_nothing_and_keeps_what_is_there(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    assert migrate(ledger) == (head_version(), head_version())
    assert now(ledger, recording) == recording


def test_a_ledger_without_tables_is_refused_with_the_next_step_and_accepted_after_it(bare_url: str) -> None:
    ledger = Ledger(bare_url)
    with pytest.raises(LedgerError, match="retroscribe migrate"):
        check_version(ledger)
    with pytest.raises(LedgerUnavailable, match="run `retroscribe migrate`"), ledger.read() as tx:
        recordings.get(tx, 1)

    assert migrate(ledger) == (None, head_version())
    check_version(ledger)
    assert current_version(ledger) == head_version()
    ledger.close()


def test_a_move_changes_the_state_and_writes_its_history_in_the_same_transaction(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    with ledger.write() as tx:
        moved = recordings.move(tx, recording, State.QUEUED, by=BY, due_at=FAR, new_epoch=True)

    assert moved == now(ledger, recording)
    assert (moved.state, moved.epoch) == (State.QUEUED, recording.epoch + 1)
    assert history(ledger, recording) == [("pending", "queued")]


def test_a_transaction_that_fails_after_a_move_leaves_neither_state_nor_history(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    with pytest.raises(ZeroDivisionError), ledger.write() as tx:  # noqa: PT012 the rollback is what is tested
        recordings.move(tx, recording, State.QUEUED, by=BY, due_at=FAR)
        _ = 1 / 0

    assert now(ledger, recording) == recording
    assert history(ledger, recording) == []


@pytest.mark.parametrize("moves", [{"state": State.CANCELLED}, {"epoch": 7}])
def test_a_move_does_nothing_when_state_or_epoch_have_changed_since(ledger: Ledger, moves: dict[str, Any]) -> None:
    recording = ask_one(ledger)
    with ledger.write() as tx:
        tx.execute(table.update().values(**moves))

    with ledger.write() as tx:
        assert recordings.move(tx, recording, State.QUEUED, by=BY, due_at=FAR) is None
        assert not recordings.amend(tx, recording, attempts=5)

    assert history(ledger, recording) == []
    assert now(ledger, recording).attempts == 0


def test_a_forbidden_transition_raises_and_changes_nothing(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    with pytest.raises(TransitionNotAllowed, match="pending to indexed"), ledger.write() as tx:
        recordings.move(tx, recording, State.INDEXED, by=BY)

    assert now(ledger, recording) == recording


@pytest.mark.parametrize("state", State)
def test_an_active_row_must_have_a_moment_at_which_it_is_looked_at_again(ledger: Ledger, state: State) -> None:
    ask_one(ledger)

    def forget() -> None:
        with ledger.write() as tx:
            tx.execute(table.update().values(state=state, due_at=None))

    if state in ACTIVE:
        with pytest.raises(IntegrityError, match="active_is_due"):
            forget()
    else:
        forget()


def test_rows_are_handed_out_oldest_first_each_with_a_new_epoch_and_only_when_due(ledger: Ledger) -> None:
    first, second, later, third = ask(ledger, 4)
    with ledger.write() as tx:
        tx.execute(table.update().where(table.c.id == later.id).values(due_at=FAR))
        got = handout.hand_out(tx, Lane.BACKFILL, first.backfill_id, 10, by=BY, due_at=FAR)

    assert [one.id for one in got] == [first.id, second.id, third.id]
    assert {one.epoch for one in got} == {first.epoch + 1}
    assert now(ledger, later).state == State.PENDING


def test_a_reader_keeps_its_look_while_others_write(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    with ledger.read() as reader:
        before = recordings.get(reader, recording.id)
        with ledger.write() as tx:
            recordings.move(tx, recording, State.CANCELLED, by=BY)
        assert recordings.get(reader, recording.id) == before

    assert now(ledger, recording).state == State.CANCELLED


def test_a_lease_is_held_by_one_until_it_is_over_given_back_or_renewed(ledger: Ledger) -> None:
    with ledger.write() as tx:
        assert leases.take(tx, "pump", "one", 60)
        assert not leases.take(tx, "pump", "two", 60)
        assert leases.take(tx, "sweep", "two", 60)
        assert leases.take(tx, "pump", "one", -1)
        assert leases.take(tx, "pump", "two", 60)
        leases.release(tx, "pump", "one")
        assert not leases.take(tx, "pump", "one", 60)
        leases.release(tx, "pump", "two")
        assert leases.take(tx, "pump", "one", 60)


def test_a_lease_tells_for_how_long_nobody_has_held_it(ledger: Ledger) -> None:
    with ledger.write() as tx:
        assert leases.idle_seconds(tx, "pump") is None
        leases.take(tx, "pump", "one", 60)
        assert leases.idle_seconds(tx, "pump") == 0
        leases.take(tx, "pump", "one", -30)
        assert leases.idle_seconds(tx, "pump") == pytest.approx(30, abs=10)
        leases.take(tx, "pump", "one", 60)
        leases.release(tx, "pump", "one")
        assert leases.idle_seconds(tx, "pump") == pytest.approx(0, abs=10)


def arrival(recording: Recording | None, payload: bytes = b"{}", **changes: Any) -> events.Arrival:
    plain: dict[str, Any] = {
        "callback_ref": "0" * 32,
        "recording_id": recording.id if recording else None,
        "transcription_id": "t-1",
        "type": "transcription.completed",
        "packed": events.pack(payload),
        "has_result": False,
        "state": events.NEW if recording else events.UNMATCHED,
    }
    return events.Arrival(**{**plain, **changes})


def test_the_same_event_is_kept_once_and_one_of_another_type_or_id_beside_it(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    with ledger.write() as tx:
        assert events.store(tx, arrival(recording, b"first"))
        assert not events.store(tx, arrival(recording, b"second"))
        assert events.store(tx, arrival(recording, b"third", type="transcription.failed"))
        assert events.store(tx, arrival(recording, b"fourth", transcription_id="t-2"))
        kept = events.waiting(tx, recording.id)

    assert [one.payload for one in kept] == [b"first", b"third", b"fourth"]


def test_an_event_with_a_result_replaces_one_without_even_after_that_was_applied(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    with ledger.write() as tx:
        events.store(tx, arrival(recording, b"without"))
        events.mark(tx, events.waiting(tx, recording.id)[0].id, events.APPLIED)
        assert events.store(tx, arrival(recording, b"with", has_result=True))
        assert not events.store(tx, arrival(recording, b"again", has_result=True))
        assert not events.store(tx, arrival(recording, b"without again"))
        kept = events.waiting(tx, recording.id)

    assert [one.payload for one in kept] == [b"with"]


def test_an_event_without_a_recording_is_kept_once_a_callback_ref(ledger: Ledger) -> None:
    with ledger.write() as tx:
        assert events.store(tx, arrival(None))
        assert not events.store(tx, arrival(None))
        assert events.store(tx, arrival(None, callback_ref="1" * 32))


def test_waiting_events_are_found_by_recording_once_they_are_old_enough(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    with ledger.write() as tx:
        events.store(tx, arrival(recording))
        events.store(tx, arrival(recording, type="transcription.failed"))
        moment = time.time()
        assert events.recordings_with_waiting(tx, 10, moment + 1) == [(recording.id, recording.media_id)]
        assert events.recordings_with_waiting(tx, 10, moment - 60) == []


def test_the_first_transcript_of_a_recording_stays(ledger: Ledger) -> None:
    recording = ask_one(ledger)

    with ledger.write() as tx:
        transcripts.keep(tx, recording.id, Transcript("t-1", ()), events.pack(b"first"))
        transcripts.keep(tx, recording.id, Transcript("t-2", ()), events.pack(b"second"))
        assert transcripts.payloads(tx, [recording.id]) == {recording.id: b"first"}
