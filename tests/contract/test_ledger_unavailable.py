"""A ledger that can't be used now says so in one sentence, holds nobody up, and goes on when it can be used again."""

import sqlite3
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from tests.contract.test_ledger import FAR, arrival, ask, ask_one, history, now
from tests.support.desk import BY
from tests.support.eventually import eventually
from tests.support.postgres import Postgres
from tests.support.race import someone_waits
from workers.errors import LedgerError, LedgerUnavailable
from workers.ledger import events, leases, recordings
from workers.ledger.engine import Ledger
from workers.model import State

PASSWORD = "hunter2-is-secret"


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    """The server with an empty ledger; whatever happens to it in the test, it runs again afterwards."""
    postgres.empty_ledger()
    yield postgres
    postgres.start()


@pytest.fixture
def shared(server: Postgres) -> Iterator[Ledger]:
    """The ledger on the server."""
    ledger = Ledger(server.url())
    yield ledger
    ledger.close()


def with_options(server: Postgres, **options: object) -> Ledger:
    """The ledger on the server in sessions that differ from ours."""
    said = " ".join(f"-c {name}={value}" for name, value in options.items())
    return Ledger(f"{server.url()}&options={quote(said)}")


def cancel(ledger: Ledger, recording_id: int) -> None:
    with ledger.write() as tx:
        found = recordings.lock(tx, recording_id)
        assert found is not None
        recordings.move(tx, found, State.CANCELLED, by=BY)


def test_given_an_sqlite_file_that_another_program_holds_then_it_is_unavailable(
    ledger: Ledger, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.ledger.engine.BUSY_TIMEOUT_SECONDS", 0)
    impatient = Ledger(ledger_url)
    holder = sqlite3.connect(ledger_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(LedgerUnavailable, match="locked"), impatient.write():
        pass

    holder.close()
    ask_one(ledger)
    impatient.close()


def test_given_a_server_killed_in_the_middle_then_nothing_is_written_and_all_goes_on_when_it_is_back(
    server: Postgres, shared: Ledger
) -> None:
    recording = ask_one(shared)
    with shared.read(), shared.read(), shared.read():
        pass  # the pool has several connections now

    with pytest.raises(LedgerUnavailable), shared.write() as tx:  # noqa: PT012 the commit is what fails
        assert recordings.move(tx, recording, State.QUEUED, by=BY, due_at=FAR)
        server.kill()
    with pytest.raises(LedgerUnavailable) as refused, shared.read():
        pass
    server.start()

    assert now(shared, recording) == recording
    cancel(shared, recording.id)
    assert history(shared, recording) == [("pending", "cancelled")]
    assert "\n" not in str(refused.value)


def test_given_a_server_that_was_restarted_then_no_connection_of_before_is_used(
    server: Postgres, shared: Ledger
) -> None:
    recording = ask_one(shared)
    with shared.read(), shared.read(), shared.read():
        pass

    server.restart()

    with shared.read() as one, shared.read() as two, shared.read() as three:
        assert [recordings.get(tx, recording.id) for tx in (one, two, three)] == [recording] * 3


def test_given_a_row_that_another_transaction_keeps_then_it_is_waited_for_only_so_long(
    server: Postgres, shared: Ledger
) -> None:
    recording = ask_one(shared)
    impatient = with_options(server, lock_timeout=20)

    with shared.write() as tx:
        recordings.lock(tx, recording.id)
        with pytest.raises(LedgerUnavailable, match="LockNotAvailable"):
            cancel(impatient, recording.id)

    cancel(impatient, recording.id)
    impatient.close()


def test_given_a_recording_that_someone_works_on_then_its_event_is_kept_without_waiting(
    server: Postgres, shared: Ledger
) -> None:
    recording = ask_one(shared)
    impatient = with_options(server, lock_timeout=20)

    with shared.write() as tx, impatient.write() as other:
        recordings.lock(tx, recording.id)
        assert events.store(other, arrival(recording))

    impatient.close()


def test_given_two_transactions_that_wait_for_each_other_then_one_is_told_to_try_again(
    server: Postgres, shared: Ledger
) -> None:
    one, two = ask(shared, 2)
    ledger = with_options(server, deadlock_timeout=10)

    def crosswise() -> None:
        with ledger.write() as tx:
            recordings.lock(tx, two.id)
            recordings.lock(tx, one.id)

    def cross() -> None:
        with ThreadPoolExecutor(1) as pool:
            with ledger.write() as tx:
                recordings.lock(tx, one.id)
                other = pool.submit(crosswise)
                eventually(lambda: someone_waits(shared), what="the other one's wait")
                recordings.lock(tx, two.id)
            other.result()

    with pytest.raises(LedgerUnavailable, match="DeadlockDetected"):
        cross()
    ledger.close()


def test_given_a_client_that_froze_in_a_transaction_then_it_loses_its_locks_and_learns_of_it(
    server: Postgres, shared: Ledger
) -> None:
    recording = ask_one(shared)
    frozen = Ledger(server.url())

    with pytest.raises(LedgerUnavailable), frozen.write() as tx:  # noqa: PT012 what comes after the freeze fails
        recordings.lock(tx, recording.id)
        tx.exec_driver_sql("SET idle_in_transaction_session_timeout = 20")  # from here on, however slow this machine is
        cancel(shared, recording.id)
        recordings.amend(tx, recording, attempts=7)

    assert (now(shared, recording).state, now(shared, recording).attempts) == (State.CANCELLED, 0)
    frozen.close()


def test_given_a_statement_that_takes_too_long_then_it_is_broken_off(server: Postgres) -> None:
    ledger = with_options(server, statement_timeout=20)

    with pytest.raises(LedgerUnavailable, match="QueryCanceled"), ledger.read() as tx:
        tx.exec_driver_sql("SELECT pg_sleep(60)")

    ledger.close()


def test_given_a_server_that_became_a_standby_then_writing_is_not_possible_now(server: Postgres) -> None:
    read_only = quote("-c default_transaction_read_only=on")
    demoted = Ledger(f"{server.url()}&target_session_attrs=any&options={read_only}")
    standby = Ledger(f"{server.url()}&options={read_only}")

    with pytest.raises(LedgerUnavailable, match="ReadOnlySqlTransaction"):
        ask_one(demoted)
    with pytest.raises(LedgerUnavailable, match="session is read-only"):
        ask_one(standby)

    demoted.close()
    standby.close()


def test_given_no_server_then_one_sentence_says_so_without_the_password() -> None:
    ledger = Ledger(f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:1/calls")

    with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1.*refused") as refused, ledger.write():
        pass

    assert "\n" not in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:5432x/calls", "is no URL of a ledger"),
        (f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1/calls?sslmod=require", '"sslmod"'),
    ],
)
def test_given_a_url_that_is_misspelt_then_the_sentence_names_the_setting_and_not_the_password(
    url: str, says: str
) -> None:
    with pytest.raises(LedgerError, match="RETROSCRIBE_DATABASE_URL") as refused, Ledger(url).read():
        pass

    assert says in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_given_no_driver_then_one_sentence_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(LedgerError, match="extra `postgres`"):
        Ledger("postgresql+psycopg://me@127.0.0.1/calls")


def test_given_options_in_the_url_then_they_add_to_what_bounds_every_session(server: Postgres) -> None:
    ledger = with_options(server, work_mem="8MB")

    with ledger.read() as tx:
        shown = {
            name: tx.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("work_mem", "lock_timeout", "idle_in_transaction_session_timeout", "application_name")
        }

    assert list(shown.values()) == ["8MB", "10s", "30s", "retroscribe"]
    ledger.close()


def test_given_a_server_set_to_forget_commits_in_a_crash_then_ours_are_kept(server: Postgres) -> None:
    ledger = with_options(server, synchronous_commit="off")

    with ledger.write() as tx:
        assert tx.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"

    ledger.close()


def test_given_a_machine_whose_clock_is_ahead_then_it_does_not_get_a_lease_that_is_held(
    shared: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared.write() as tx:
        assert leases.take(tx, "pump", "one", 60)
    monkeypatch.setattr(time, "time", lambda: FAR)

    with shared.write() as tx:
        assert not leases.take(tx, "pump", "two", 60)
