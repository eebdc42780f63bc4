"""The limiter's gate, canary and breaker: the real script on a real server, with a clock that the test moves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.limits import LEASE, SECOND, Bucket
from tests.support.valkey import Valkey


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    server = Valkey(Path(tmp_path_factory.mktemp("valkey"))).start()
    with server.client() as client:
        yield client
    server.close()


def test_changed_gate_voids_every_permit_and_a_shorter_one_changes_nothing(client):
    bucket = Bucket(client, 10)
    permit = bucket.acquire()
    assert bucket.run("check", permit.epoch).word == "open"

    closed = bucket.close(5)
    shorter = bucket.close(2)

    assert bucket.run("check", permit.epoch).word == "void"
    assert (shorter.gate, shorter.epoch) == (closed.gate, closed.epoch) == (bucket.now + 5 * SECOND, permit.epoch + 1)


def test_void_slots_are_free_again_after_a_short_gate_but_used_ones_still_count(client):
    bucket = Bucket(client, 10).warm()
    used = bucket.acquire().slot
    bucket.drain()

    bucket.close(0.001)
    bucket.now += 1000
    canary = bucket.acquire()

    assert canary.word == "canary"
    assert canary.slot == used + bucket.interval


def test_after_the_gate_one_canary_goes_first_and_its_success_opens(client):
    bucket = Bucket(client, 10)
    bucket.close(5)
    assert bucket.acquire().word == "gate"

    bucket.now += 5 * SECOND
    canary = bucket.acquire()
    assert [canary.word, bucket.acquire().word] == ["canary", "probing"]

    bucket.settle(canary, ok=True)
    assert bucket.acquire().word == "slot"


def test_dead_canarys_lease_ends_and_the_next_goes(client):
    bucket = Bucket(client, 10)
    bucket.close(1)
    bucket.now += SECOND
    dead = bucket.acquire()

    bucket.now += LEASE - 1
    assert bucket.acquire().word == "probing"
    bucket.now += 1
    heir = bucket.acquire()
    bucket.run("give_back", dead.epoch, dead.slot)

    assert heir.word == "canary"
    assert bucket.acquire().word == "probing"


def test_canary_that_is_given_back_lets_the_next_go_at_once(client):
    bucket = Bucket(client, 10)
    bucket.close(1)
    bucket.now += SECOND
    canary = bucket.acquire()

    bucket.run("give_back", canary.epoch, canary.slot)

    assert bucket.acquire().word == "canary"


def test_fifth_failure_in_a_row_closes_for_1_s_and_each_failed_canary_doubles_that_up_to_300(client):
    bucket = Bucket(client, 40)
    permits = [bucket.acquire() for _ in range(6)]
    assert [bucket.settle(permit, ok=False).gate for permit in permits[:4]] == [0, 0, 0, 0]

    closings = [bucket.settle(permits[4], ok=False).gate - bucket.now]
    assert bucket.settle(permits[5], ok=False).gate == bucket.now + closings[0], "a call from before says nothing new"
    for _ in range(10):
        bucket.now += closings[-1]
        closings.append(bucket.settle(bucket.acquire(), ok=False).gate - bucket.now)

    assert [closing // SECOND for closing in closings] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_success_ends_the_row_of_failures_and_an_unreachable_api_closes_at_once(client):
    bucket = Bucket(client, 40)
    permits = [bucket.acquire() for _ in range(10)]

    answers = [bucket.settle(permit, ok=number == 4) for number, permit in enumerate(permits[:9])]
    assert [answer.failures for answer in answers] == [1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert answers[-1].gate == 0

    assert bucket.settle(permits[9], ok=False, immediately=True).gate == bucket.now + SECOND


def test_figures_count_the_429s_of_a_minute_and_the_slots_that_have_passed(client):
    bucket = Bucket(client, 10).warm()
    bucket.now += 60 * SECOND
    for _ in range(30):
        assert bucket.acquire().word == "slot"
        bucket.now += SECOND
    bucket.close(0)
    bucket.close(1)
    bucket.close(1, "maintenance")

    figures = [bucket.raw("peek")[10:]]
    for later in (50, 11):
        bucket.now += later * SECOND
        figures.append(bucket.raw("peek")[10:])

    assert figures == [[2, 30, 10], [2, 10, 0], [0, 0, 0]]
