"""The limiter when Redis is down, restarted or wiped."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.limits import connect, limiter, refused, warm
from tests.support.valkey import Valkey
from workers.errors import LimiterUnavailable
from workers.model import CallClass

SUBMIT = CallClass.SUBMIT


@pytest.fixture
def client(tmp_path: Path) -> Iterator[redis.Redis]:
    server = Valkey(tmp_path).start()
    with connect(server.url) as client:
        yield client
    server.close()


def test_flushed_scripts_are_loaded_again_unnoticed(client):
    shared = limiter(client)
    shared.acquire(SUBMIT)

    client.script_flush()

    assert shared.acquire(SUBMIT)


def test_wiped_redis_starts_carefully_and_voids_what_was_given_before(client):
    warm(client, 99)
    shared = limiter(client, 100)
    permit = shared.acquire(SUBMIT)

    client.flushall()

    assert not shared.is_open(permit)
    assert shared.snapshot(SUBMIT).rate == pytest.approx(49.5)


def test_gate_that_redis_lost_is_put_back_by_a_process_that_knew_it(client):
    shared = limiter(client)
    shared.close_gate(SUBMIT, 30, "429")

    client.flushall()
    refusal = refused(lambda: shared.acquire(SUBMIT, max_wait_seconds=1))
    state = limiter(client).snapshot(SUBMIT)

    assert refusal.retry_after_seconds > 25
    assert 25 < state.gate_seconds <= 30.1
    assert (state.gate_reason, state.rejected_last_minute) == ("429", 0)


def test_canary_after_a_gate_that_was_put_back_still_knows_of_the_outage(client):
    shared = limiter(client)
    shared.close_gate(SUBMIT, 0.3, "failing")

    client.flushall()

    assert shared.acquire(SUBMIT).after_outage


def test_without_redis_nothing_may_be_sent_and_a_gate_is_closed_once_it_is_back(tmp_path):
    server = Valkey(tmp_path).start()
    shared = limiter(connect(server.url))
    permit = shared.acquire(SUBMIT)
    try:
        server.stop()
        for ask in (lambda: shared.acquire(SUBMIT), lambda: shared.is_open(permit), lambda: shared.snapshot(SUBMIT)):
            with pytest.raises(LimiterUnavailable):
                ask()
        shared.settle(permit, ok=False)
        shared.give_back(permit)
        shared.close_gate(SUBMIT, 30, "429")

        server.start()

        assert refused(lambda: shared.acquire(SUBMIT, max_wait_seconds=1)).retry_after_seconds > 25
    finally:
        server.close()
