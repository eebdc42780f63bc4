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


def calls(bucket: Bucket, outcomes: str) -> list[str]:
    """Makes ten calls a second, of which `.` goes well and `x` fails; gives those made until the gate closes."""
    made = []
    for outcome in outcomes:
        made.append(outcome)
        if bucket.settle(bucket.acquire(), ok=outcome == ".").gate > bucket.now:
            break
        bucket.now += SECOND // 10
    return made


def opened(client: redis.Redis) -> Bucket:
    """A bucket at its full rate whose breaker has closed the gate and whose canary has opened it again."""
    bucket = Bucket(client, 10).warm()
    assert calls(bucket, "x" * 9) == list("x" * 5)
    bucket.now += SECOND
    assert calls(bucket, ".") == ["."]
    return bucket


def test_a_fifth_of_failures_closes_though_never_five_in_a_row(client):
    bucket = Bucket(client, 10).warm()

    assert len(calls(bucket, "...x" * 4 + "....x" * 20)) == 4 * 4 + 5 * 1

    bucket = Bucket(client, 10).warm()
    assert len(calls(bucket, ".....x" * 20)) == 6 * 20


def test_a_share_of_few_calls_closes_nothing(client):
    bucket = Bucket(client, 10).warm()

    assert calls(bucket, "xxxx." * 3 + "xxx.") == list("xxxx." * 3 + "xxx.")
    assert calls(bucket, "x") == ["x"]
    assert bucket.acquire().word == "gate"


def test_failures_of_more_than_30_s_ago_are_forgotten(client):
    bucket = Bucket(client, 10).warm()
    calls(bucket, "xxxx." * 2)

    bucket.now += 31 * SECOND

    assert len(calls(bucket, "." * 20 + "x..")) == 23


def test_failures_from_before_a_canarys_success_are_forgotten(client):
    bucket = opened(client)

    assert len(calls(bucket, "." * 14 + "xxx" + "." * 8)) == 25


def test_outcomes_of_calls_from_before_the_closing_neither_prolong_it_nor_open_the_gate(client):
    bucket = Bucket(client, 40)
    late = [bucket.acquire() for _ in range(3)]
    closed = bucket.settle(bucket.acquire(), ok=False, immediately=True)

    assert bucket.settle(late[0], ok=False).gate == closed.gate
    bucket.now = closed.gate
    canary = bucket.acquire()
    bucket.settle(late[1], ok=True)
    bucket.settle(late[2], ok=False)
    assert bucket.acquire().word == "probing"

    answer = bucket.settle(canary, ok=True)
    assert (answer.gate, answer.failures) == (closed.gate, 0)
    assert bucket.acquire().word == "slot"


def test_an_api_that_answers_now_and_then_is_left_alone_longer_and_longer_until_it_is_well_for_30_s(client):
    bucket = opened(client)
    closings = []
    for calm in ("." * 10, "." * 10, "." * 301):
        calls(bucket, calm + "x" * 5)
        closings.append(bucket.acquire().wait)
        bucket.now += closings[-1]
        calls(bucket, ".")

    assert [closing // SECOND for closing in closings] == [2, 4, 1]


def test_figures_count_the_429s_of_a_minute_and_the_slots_that_have_passed(client):
    bucket = Bucket(client, 10).warm()
    bucket.now += 60 * SECOND
    for _ in range(30):
        assert bucket.acquire().word == "slot"
        bucket.now += SECOND
    bucket.close(0)
    bucket.close(1)
    bucket.close(1, "maintenance")

    figures = [bucket.raw("peek")[10:13]]
    for later in (50, 11):
        bucket.now += later * SECOND
        figures.append(bucket.raw("peek")[10:13])

    assert figures == [[2, 30, 10], [2, 10, 0], [0, 0, 0]]


def test_gate_is_as_long_as_it_was_when_the_servers_clock_is_set_back_and_its_canary_is_not_waited_for(client):
    bucket = Bucket(client, 10)
    bucket.close(5)
    bucket.now += 5 * SECOND
    assert bucket.acquire().word == "canary"
    bucket.close(5)

    bucket.now -= 3600 * SECOND
    assert (bucket.acquire().word, bucket.acquire().wait) == ("gate", 5 * SECOND)
    bucket.now += 5 * SECOND

    assert bucket.acquire().word == "canary"
