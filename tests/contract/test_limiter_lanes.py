"""Who gets the slots of a bucket that many want: the real script on a real server, with a clock that the test moves."""

import heapq
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.limits import SECOND, Bucket

LIVE, BACKFILL = "live", "backfill"
#: How long after a refusal one asks again, in microseconds, as the limiter's object does it.
AGAIN = {LIVE: (50_000, 200_000), BACKFILL: (400_000, 800_000)}
Flow = tuple[str, str]


def compete(bucket: Bucket, askers: dict[Flow, int], seconds: int, seed: int = 0) -> Counter[Flow]:
    """Who gets how many slots when so many of each flow ask all the time; each asks again when its slot has come."""
    chance = random.Random(seed)
    queue = [(bucket.now + number, flow) for flow, count in askers.items() for number in range(count)]
    heapq.heapify(queue)
    granted: Counter[Flow] = Counter()
    end = bucket.now + seconds * SECOND
    while (asker := heapq.heappop(queue))[0] < end:
        at, flow = asker
        bucket.now = max(bucket.now, at)
        answer = bucket.acquire(lane=flow[0], call_class=flow[1])
        if answer.word == "slot":
            granted[flow] += 1
            again = answer.slot + 1
        else:
            again = bucket.now + answer.wait + chance.randint(*AGAIN[flow[0]])
        heapq.heappush(queue, (again, flow))
    return granted


def test_live_goes_first_and_backfill_keeps_a_tenth(client):
    granted = compete(Bucket(client, 10).warm(), {(LIVE, "submit"): 16, (BACKFILL, "submit"): 16}, 60)

    total = sum(granted.values())
    assert total >= 590
    assert 0.09 * total <= granted[BACKFILL, "submit"] <= 0.14 * total


@settings(max_examples=6, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(live=st.integers(1, 20), backfill=st.integers(1, 20), seed=st.integers(0, 1000))
def test_however_many_ask_no_slot_is_lost_and_both_lanes_have_their_part(client, live, backfill, seed):
    bucket = Bucket(client, 10).warm()

    granted = compete(bucket, {(LIVE, "submit"): live, (BACKFILL, "submit"): backfill}, 30, seed)

    # Each asker waits up to a second for its slot, and before that for its turn to ask: one alone can't want more.
    total = granted.total()
    assert granted[BACKFILL, "submit"] >= (0.08 if backfill > 1 else 0.06) * total
    assert granted[LIVE, "submit"] >= 0.6 * min(0.9 * total, live * 30)
    assert total >= (290 if live + backfill >= 20 else 15 * min(20, live + backfill))


def test_a_lane_alone_has_everything(client):
    for lane in (LIVE, BACKFILL):
        granted = compete(Bucket(client, 10).warm(), {(lane, "submit"): 16}, 30)

        assert granted.total() >= 295


def test_live_call_goes_before_the_backfill_that_waits_until_the_tenth_of_that_is_due(client):
    bucket = Bucket(client, 10).warm()
    bucket.drain()
    assert bucket.acquire(lane=LIVE).word == "later"

    bucket.now += SECOND // 10
    assert bucket.acquire(lane=BACKFILL).word == "later"
    assert bucket.acquire(lane=LIVE).word == "slot"
    for _ in range(8):
        bucket.now += SECOND // 10
        assert bucket.acquire(lane=LIVE).word == "slot"
        bucket.acquire(lane=BACKFILL)
    bucket.now += SECOND // 10

    assert bucket.acquire(lane=LIVE).word == "later"
    assert bucket.acquire(lane=BACKFILL).word == "slot"


def test_who_wanted_and_went_away_blocks_nobody_for_long(client):
    bucket = Bucket(client, 10).warm()
    bucket.drain()
    assert bucket.acquire(lane=LIVE).word == "later"

    bucket.now += SECOND // 2

    assert len(bucket.drain()) == 5


def test_on_a_shared_bucket_look_ups_go_before_submissions_and_status_has_a_twentieth(client):
    flows = {(BACKFILL, "submit"): 8, (BACKFILL, "media"): 1, (BACKFILL, "status"): 1}
    granted = compete(Bucket(client, 10).warm(), flows, 60)

    assert granted.total() >= 590
    # One asker each can't take everything: what it does not, submissions have.
    assert granted[BACKFILL, "media"] >= 60
    assert granted[BACKFILL, "submit"] >= 300

    granted = compete(Bucket(client, 10).warm(), {(LIVE, "media"): 16, (BACKFILL, "status"): 4}, 60)

    assert granted[BACKFILL, "status"] >= 0.05 * granted.total()


def test_window_that_the_api_tells_of_is_never_overrun_and_leaves_the_others_their_part(client):
    bucket = Bucket(client, 10).warm()
    sent, others, second = 0, 0, 0
    begin = bucket.now
    while second < 58:
        for slot in bucket.drain():
            sent += slot <= bucket.now + SECOND
        bucket.now += SECOND
        second += 1
        others += 6
        bucket.run("observe", sent + others, 600, 60 - second)

    assert sent + 6 * 60 <= 600
    assert sent >= 0.85 * (600 - 6 * 60)
    assert float(bucket.raw("peek")[15]) == pytest.approx(6, abs=1)
    bucket.now = begin + 60 * SECOND
    assert float(bucket.raw("peek")[15]) == -1


def test_used_up_window_is_waited_for_to_its_end(client):
    bucket = Bucket(client, 10).warm()

    bucket.run("observe", 600, 600, 12)
    answer = bucket.acquire()
    assert (answer.word, answer.wait) == ("later", 12 * SECOND)
    bucket.now += 12 * SECOND

    assert bucket.acquire().word == "slot"


@pytest.mark.parametrize("told", [(0, 0, 0), (10**12, 1, 10**9), (0.5, 1e300, 0.25), (599, 600, 0)])
def test_whatever_the_api_tells_permits_stay_within_the_rate(client, told):
    bucket = Bucket(client, 10).warm()

    bucket.run("observe", *told)
    slots = bucket.drain()

    assert len(slots) <= 11
    assert float(bucket.raw("peek")[8]) <= 10
