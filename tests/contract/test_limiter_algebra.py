"""What the limiter's script promises, whatever happens in whichever order: the real script on a real server, with a
clock that the test moves."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.limits import LAG, SECOND, START, Bucket
from tests.support.valkey import Valkey
from workers.limits.script import Answer

rates = st.floats(0.5, 40)
property_test = settings(
    max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    server = Valkey(Path(tmp_path_factory.mktemp("valkey"))).start()
    with server.client() as client:
        yield client
    server.close()


steps = st.one_of(
    st.tuples(st.just("advance"), st.integers(1, 3 * SECOND)),
    st.tuples(st.just("advance"), st.integers(1, LAG * 2)),
    st.tuples(st.just("acquire"), st.integers(0, SECOND)),
    st.tuples(st.just("drain"), st.just(0)),
    st.tuples(st.just("give_back"), st.integers(0, 5)),
    st.tuples(st.just("close"), st.integers(0, 3 * SECOND)),
    st.tuples(st.just("settle"), st.booleans()),
)


class Story:
    """Plays steps on a bucket and keeps the permits whose calls were, or will be, made."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.granted: list[Answer] = []
        self.gates = [0]

    def play(self, step: str, value: int) -> None:
        self.bucket.now += 1
        getattr(self, step)(value)

    def advance(self, microseconds: int) -> None:
        self.bucket.now += microseconds

    def drain(self, _: int) -> None:
        for _ in range(40):
            self.acquire(SECOND)
            self.bucket.now += 1

    def acquire(self, horizon: int) -> None:
        answer = self.bucket.acquire(horizon)
        if answer.word in {"slot", "canary"}:
            assert self.bucket.now <= answer.slot <= self.bucket.now + horizon
            self.granted.append(answer)
        self.gates.append(answer.gate)

    def give_back(self, position: int) -> None:
        """Twice. Only the newest counts as free: did the script free another, slots would come too close together."""
        if position < len(self.granted):
            permit = self.granted[-1 - position]
            holds = self.bucket.run("check", permit.epoch).word == "open"
            self.bucket.run("give_back", permit.epoch, permit.slot)
            self.bucket.run("give_back", permit.epoch, permit.slot)
            if position == 0 and holds:
                self.granted.pop()

    def close(self, microseconds: int) -> None:
        self._changed_by(self.bucket.close(microseconds / SECOND))

    def settle(self, ok: bool) -> None:
        if self.granted:
            self._changed_by(self.bucket.settle(self.granted[-1], bool(ok)))

    def _changed_by(self, answer: Answer) -> None:
        if answer.gate > self.gates[-1]:
            self.granted = [permit for permit in self.granted if permit.slot <= self.bucket.now]
        self.gates.append(answer.gate)


@property_test
@given(rate=rates, story=st.lists(steps, max_size=40))
def test_whatever_happens_no_window_holds_more_than_its_share_and_the_gate_only_moves_on(client, rate, story):
    told = Story(Bucket(client, rate))

    for step, value in story:
        told.play(step, value)

    slots = [permit.slot for permit in told.granted]
    assert slots == sorted(set(slots))
    for first, begin in enumerate(slots):
        for more, end in enumerate(slots[first:]):
            assert more <= rate * (end - begin + LAG) / SECOND + 1e-6, "more than rate x (window + lag) + 1 slots"
    assert told.gates == sorted(told.gates)
    assert all(permit.slot >= permit.gate for permit in told.granted)


@property_test
@given(rate=rates, pauses=st.lists(st.integers(1, 800_000), min_size=5, max_size=12))
def test_asked_within_the_horizon_no_slot_is_lost(client, rate, pauses):
    bucket = Bucket(client, rate).warm()
    bucket.drain()
    slots = []

    for pause in pauses:
        bucket.now += pause
        slots += bucket.drain()

    assert {later - earlier for earlier, later in pairwise(slots)} <= {bucket.interval}


@property_test
@given(rate=st.floats(2, 50), late=st.integers(0, SECOND))
def test_late_asker_loses_nothing_within_the_lag_and_gains_nothing_beyond(client, rate, late):
    bucket = Bucket(client, rate).warm()
    bucket.acquire()
    before = bucket.acquire().slot

    bucket.now = before + bucket.interval + late
    slot, following = bucket.acquire().slot, bucket.acquire().slot

    assert slot == bucket.now
    assert following - slot == bucket.interval - min(late, bucket.lag)


@property_test
@given(rate=st.floats(1, 20))
def test_new_state_begins_at_half_the_rate_and_is_full_within_5_s_of_waiting_work(client, rate):
    bucket = Bucket(client, rate)
    assert float(bucket.raw("peek")[8]) == pytest.approx(rate / 2)
    slots = []

    while bucket.now < START + 10 * SECOND:
        slots += bucket.drain()
        bucket.now += SECOND // 10

    assert len(slots) >= 8 * rate
    assert float(bucket.raw("peek")[8]) == pytest.approx(rate)


def test_idle_time_does_not_make_the_rate_grow(client):
    bucket = Bucket(client, 10)

    for _ in range(20):
        assert bucket.acquire().word == "slot"
        bucket.now += SECOND

    assert float(bucket.raw("peek")[8]) < 5.5


def test_lowered_rate_of_the_state_is_obeyed_and_a_lower_ceiling_as_well(client):
    bucket = Bucket(client, 10).warm()
    client.hset(bucket.key, "rate", 2)
    bucket.now += 5 * SECOND
    _, first, second = (bucket.acquire() for _ in range(3))
    assert second.slot - first.slot == SECOND // 2

    bucket.rate = 1
    bucket.now = second.slot
    third = bucket.acquire()
    bucket.now = third.slot
    fourth = bucket.acquire()

    assert fourth.slot - third.slot == SECOND


def test_only_the_newest_slot_can_be_given_back(client):
    bucket = Bucket(client, 10).warm()
    first, second, third = (bucket.acquire() for _ in range(3))

    bucket.run("give_back", first.epoch, first.slot)
    fourth = bucket.acquire()
    bucket.run("give_back", fourth.epoch, fourth.slot)
    fifth = bucket.acquire()
    bucket.run("give_back", fourth.epoch, fourth.slot)

    assert fourth.slot - third.slot == third.slot - second.slot == bucket.interval
    assert fifth.slot == fourth.slot + 1
    assert bucket.acquire().slot == fifth.slot + bucket.interval


def test_server_clock_set_back_stops_nobody_for_long(client):
    bucket = Bucket(client, 10).warm()
    bucket.drain()

    bucket.acquire(lane="live")
    bucket.run("observe", 600, 600, 30)
    bucket.close(0)
    bucket.settle(bucket.acquire(), ok=True)

    bucket.now -= 3600 * SECOND
    assert bucket.acquire(SECOND // 2).word == "later"
    bucket.now += SECOND // 2

    assert bucket.acquire(SECOND // 2).word == "slot"
    for _ in range(5):
        bucket.now += SECOND
        assert bucket.drain()
    bucket.close(0)
    assert bucket.field("mark") > 0, "a 429 is learned from"
