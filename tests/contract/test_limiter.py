"""The limiter as processes and threads use it, on a real server and in real time."""

import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tests.support.eventually import eventually
from tests.support.limits import GATE, PACE, connect, limiter, refused, warm
from tests.support.valkey import Valkey
from workers.errors import LedgerUnavailable, RateLimited
from workers.limits.guard import permitted
from workers.limits.limiter import Limiter
from workers.model import CallClass, Lane

SUBMIT, MEDIA, TOKEN = CallClass.SUBMIT, CallClass.MEDIA, CallClass.TOKEN
RATE = 100.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(Path(tmp_path_factory.mktemp("valkey"))).start()
    yield server
    server.close()


@pytest.fixture
def client(server: Valkey) -> Iterator[redis.Redis]:
    with connect(server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def compete(url: str, seconds: float, slots: "multiprocessing.Queue[list[float]]") -> None:
    """A process whose threads call as often as they are let."""
    shared = limiter(connect(url), RATE)
    end = time.monotonic() + seconds

    def call() -> list[float]:
        mine = []
        while (left := end - time.monotonic()) > 0:
            try:
                permit = shared.acquire(SUBMIT, max_wait_seconds=left)
            except RateLimited:
                break
            mine.append(permit.slot)
            shared.settle(permit, ok=True)
        return mine

    with ThreadPoolExecutor(16) as pool:
        slots.put([slot for run in [pool.submit(call) for _ in range(16)] for slot in run.result()])


def waiting_for_a_slot(client: redis.Redis, threads: ThreadPoolExecutor, **options) -> tuple[Limiter, Future]:
    """A limiter whose next slot, most of a second away, a thread has reserved."""
    warm(client, 1.2)
    shared = limiter(client, 1.2, **options)
    newest = int(shared.acquire(SUBMIT).slot * 1e6) + 10
    waiting = threads.submit(shared.acquire, SUBMIT)
    eventually(lambda: int(client.hget(PACE, "newest")) > newest)
    return shared, waiting


def test_many_processes_racing_share_every_slot_and_take_none_twice(server, client):
    warm(client, RATE)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=compete, args=(server.url, 3.0, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    slots = sorted(slot for _ in processes for slot in queue.get(timeout=30))
    for process in processes:
        process.join()

    rate = RATE * 0.99
    assert len(set(slots)) == len(slots)
    for first, begin in enumerate(slots):
        for more, end in enumerate(slots[first : first + 150]):
            assert more <= rate * (end - begin + 0.01) + 1e-3
    middle = [slot for slot in slots if slots[0] + 1 <= slot < slots[0] + 2.5]
    assert len(middle) >= 0.9 * 1.5 * rate


def test_permit_is_due_when_its_slot_has_come_whatever_the_callers_clock_says(client, monkeypatch):
    warm(client, 10)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    shared = limiter(client, 10)

    permits = [shared.acquire(SUBMIT) for _ in range(3)]

    seconds, microseconds = client.time()
    assert 0 <= seconds + microseconds / 1e6 - permits[-1].slot < 1
    assert permits[2].slot - permits[1].slot == pytest.approx(1 / 9.9, abs=1e-5)


def test_wait_beyond_the_callers_limit_is_refused_and_live_work_may_ask_sooner(client):
    shared = limiter(client, 1)
    shared.acquire(SUBMIT)

    backfill = refused(lambda: shared.acquire(SUBMIT, max_wait_seconds=0.1)).retry_after_seconds
    live = refused(lambda: shared.acquire(SUBMIT, lane=Lane.LIVE, max_wait_seconds=0.1)).retry_after_seconds

    assert live < backfill


def test_gate_that_closes_while_one_waits_for_a_slot_makes_it_begin_again(client, threads):
    shared, waiting = waiting_for_a_slot(client, threads)

    shared.close_gate(SUBMIT, 0.6, "429")
    permit = waiting.result(timeout=20)

    assert permit.canary
    assert permit.slot >= int(client.hget(GATE, "gate")) / 1e6


def test_permit_is_void_for_its_holder_once_another_process_closes_the_gate(client):
    holder, other = limiter(client), limiter(client)
    permit = holder.acquire(SUBMIT)
    assert holder.is_open(permit)

    other.close_gate(SUBMIT, 1, "429")

    assert not holder.is_open(permit)


def test_one_canary_goes_for_the_whole_fleet_and_the_rest_follows_its_success(client):
    one, other = limiter(client), limiter(client)
    one.close_gate(SUBMIT, 0, "429")
    canary = one.acquire(SUBMIT)
    refused(lambda: other.acquire(SUBMIT, max_wait_seconds=0.05))

    one.settle(canary, ok=True)

    assert canary.canary
    assert not other.acquire(SUBMIT).canary


def test_canary_that_died_is_followed_by_another_when_its_lease_ends(client):
    shared = limiter(client, canary_lease_seconds=0.3)
    shared.close_gate(SUBMIT, 0, "429")
    dead = shared.acquire(SUBMIT)

    heir = shared.acquire(SUBMIT, max_wait_seconds=20)

    assert heir.canary
    assert heir.slot - dead.slot >= 0.3


def test_canary_that_ends_for_another_reason_than_the_apis_is_followed_at_once(client):
    shared = limiter(client)
    shared.close_gate(SUBMIT, 0, "429")

    with pytest.raises(LedgerUnavailable), permitted(shared, SUBMIT):
        raise LedgerUnavailable("It could not be written down.")

    assert shared.acquire(SUBMIT, max_wait_seconds=1).canary
    assert shared.snapshot(SUBMIT).probing


def test_success_costs_no_round_trip_until_somebody_has_failed(client):
    one, other = limiter(client), limiter(client)
    permits = [one.acquire(SUBMIT) for _ in range(2)]
    client.config_resetstat()

    one.settle(permits[0], ok=True)
    assert "cmdstat_evalsha" not in client.info("commandstats")

    other.settle(permits[1], ok=False)
    one.settle(one.acquire(SUBMIT), ok=True)
    assert one.snapshot(SUBMIT).failures == 0


def test_shared_buckets_let_all_but_token_draw_on_the_submit_limit(client):
    shared = limiter(client, 1, shared=True)
    shared.acquire(SUBMIT)

    refused(lambda: shared.acquire(MEDIA, max_wait_seconds=0.1))

    assert shared.acquire(TOKEN, max_wait_seconds=0.1)


def test_of_classes_on_one_bucket_only_the_one_that_fails_is_closed_and_only_its_own_success_opens_it(client):
    shared = limiter(client, shared=True)
    shared.settle(shared.acquire(SUBMIT), ok=False, immediately=True)

    other = shared.acquire(MEDIA, max_wait_seconds=0.5)
    shared.settle(other, ok=True)

    assert not other.canary
    refused(lambda: shared.acquire(SUBMIT, max_wait_seconds=0.1))
    assert [shared.snapshot(one).probing for one in (SUBMIT, MEDIA)] == [True, False]


def test_429_of_one_class_closes_the_gates_of_all_on_its_bucket(client):
    shared = limiter(client, shared=True)
    permit = shared.acquire(SUBMIT)

    shared.close_gate(MEDIA, 30, "429")

    gates = {one: shared.snapshot(one).gate_seconds > 29 for one in CallClass}
    assert gates == {one: one != TOKEN for one in CallClass}
    assert not shared.is_open(permit)


def test_canary_knows_whether_calls_failed_or_a_429_closed_the_gate(client):
    shared = limiter(client)
    shared.close_gate(SUBMIT, 0, "failing")
    shared.close_gate(MEDIA, 0, "429")

    assert shared.acquire(SUBMIT).after_outage
    assert not shared.acquire(MEDIA).after_outage


def test_snapshot_says_rate_gate_and_rejections(client):
    shared = limiter(client, 10)
    fresh = shared.snapshot(SUBMIT)
    shared.close_gate(SUBMIT, 42, "429")
    closed = shared.snapshot(SUBMIT)

    assert (fresh.configured, fresh.ceiling_rate, fresh.rate) == (10, pytest.approx(9.9), pytest.approx(4.95))
    assert (fresh.gate_seconds, fresh.gate_reason, fresh.rejected_last_minute) == (0, None, 0)
    assert 40 < closed.gate_seconds <= 42.1
    assert (closed.gate_reason, closed.probing, closed.rejected_last_minute) == ("429", True, 1)


def test_only_so_many_threads_wait_for_a_far_gate(client, threads):
    stop = threading.Event()
    shared = limiter(client, max_waiters=2, stop=stop)
    shared.close_gate(SUBMIT, 30, "429")

    waits: list[Future] = [threads.submit(shared.acquire, SUBMIT) for _ in range(4)]
    eventually(lambda: sum(wait.done() for wait in waits) == 2)
    refusals = [wait.exception() for wait in waits if wait.done()]
    stop.set()

    assert all(isinstance(refusal, RateLimited) and refusal.retry_after_seconds > 29 for refusal in refusals)


def test_stop_ends_a_wait_for_the_gate_at_once(client, threads):
    stop = threading.Event()
    shared = limiter(client, stop=stop)
    shared.close_gate(SUBMIT, 30, "429")
    waiting = threads.submit(shared.acquire, SUBMIT)

    stop.set()

    assert isinstance(waiting.exception(timeout=10), RateLimited)


def test_stop_frees_the_slot_that_a_thread_waits_for(client, threads):
    stop = threading.Event()
    _, waiting = waiting_for_a_slot(client, threads, stop=stop)
    reserved = client.hget(PACE, "newest")

    stop.set()

    assert isinstance(waiting.exception(timeout=10), RateLimited)
    assert int(client.hget(PACE, "tat")) == int(reserved) + 1
