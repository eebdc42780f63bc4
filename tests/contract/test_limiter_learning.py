"""What the limiter learns of a limit that it does not know: the real script, the sandbox's limits, a moved clock."""

import pytest
import redis

from tests.support.limits import SECOND, Bucket, Server

SECONDS = ("token-bucket", "fixed-second", "sliding-second")
KINDS = (*SECONDS, "minute")
#: As the benchmark has it: what a neighbour takes of the limit, in turns.
NEIGHBOUR = (0.0, 0.5, 0.2, 0.8, 0.0)
CEILING = 0.99


def bucket_of(client: redis.Redis, rate: float = 10) -> Bucket:
    return Bucket(client, rate, CEILING)


@pytest.mark.parametrize("kind", KINDS)
def test_published_limit_is_used_without_a_429(client, kind):
    server = Server(bucket_of(client), kind, 10)

    played = server.play(180)

    assert played.rejected() == 0
    assert played.share(30) >= 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_limit_that_is_really_lower_is_found_within_a_minute_and_then_used(client, kind):
    server = Server(bucket_of(client), kind, 6)

    played = server.play(240)

    # A window that is counted strictly refuses the first call too many, so the limiter stays farther below it.
    assert played.share(60) >= {"fixed-second": 0.83, "sliding-second": 0.83}.get(kind, 0.95)
    assert played.rejected(60) <= 0.01


@pytest.mark.parametrize("kind", SECONDS)
def test_429s_of_a_stable_limit_become_rarer_and_rarer(client, kind):
    server = Server(bucket_of(client), kind, 6)

    columns = server.play(900).columns["rejected_429"]

    assert sum(columns[:300]) <= 15
    assert sum(columns[600:900]) <= 8


@pytest.mark.parametrize("kind", KINDS)
def test_beside_a_neighbour_most_of_what_it_leaves_is_used_and_few_calls_are_refused(client, kind):
    shares, rejected = [], []
    for seed in range(3):
        server = Server(bucket_of(client), kind, 10, seed=seed)
        server.limits.set_neighbour(NEIGHBOUR, 24)
        played = server.play(120)
        shares.append(played.share(30))
        rejected.append(played.rejected(30))

    assert sum(shares) / 3 >= {"token-bucket": 0.85, "minute": 0.9}.get(kind, 0.7)
    assert sum(rejected) / 3 <= {"minute": 0.002}.get(kind, 0.025)


@pytest.mark.parametrize("kind", KINDS)
def test_limit_that_is_raised_at_the_server_is_found_up_to_the_ceiling(client, kind):
    server = Server(bucket_of(client), kind, 4)
    server.play(120)
    server.limits.set_rate(10)

    server.play(120)

    played = server.play(60)
    assert played.share(-60) >= 0.95
    assert played.rejected(-60) <= 0.01


def test_learned_rate_lies_at_what_the_server_lets_through(client):
    bucket = bucket_of(client)
    Server(bucket, "token-bucket", 6).play(200)

    learned = float(bucket.raw("peek")[14])

    assert 5.4 <= learned <= 6.6


def test_limit_set_at_run_time_is_followed_up_and_down_and_ended(client):
    bucket = bucket_of(client)
    server = Server(bucket, "token-bucket", 20)
    server.play(30)

    bucket.run("set_limit", 20)
    raised = server.play(30)
    assert sum(raised.columns["passed"][-15:]) / 15 == pytest.approx(19.8, abs=0.3)
    bucket.run("set_limit", 3)
    lowered = server.play(20)
    assert sum(lowered.columns["passed"][-15:]) / 15 == pytest.approx(2.97, abs=0.2)
    bucket.run("set_limit", 0)
    ended = server.play(30)

    assert sum(ended.columns["passed"][-15:]) / 15 == pytest.approx(9.9, abs=0.3)
    assert sum(ended.columns["rejected_429"]) == 0


def test_new_limit_forgets_what_was_learned_and_the_same_again_does_not(client):
    bucket = bucket_of(client)
    Server(bucket, "token-bucket", 6).play(60)
    assert bucket.field("mark") > 0

    bucket.run("set_limit", 0)
    assert bucket.field("mark") > 0
    bucket.run("set_limit", 20)
    assert bucket.field("mark") == 0
    Server(bucket, "token-bucket", 6).play(60)
    bucket.run("set_limit", 20)

    assert bucket.field("mark") > 0


def test_one_event_of_many_429s_lowers_the_rate_once(client):
    bucket = bucket_of(client).warm()
    permits = [bucket.acquire() for _ in range(8)]
    bucket.now += SECOND

    for permit in permits:
        bucket.run("close_gate", SECOND, "429", 1, permit.epoch)
        bucket.now += SECOND // 5

    assert bucket.field("rate") >= 0.75 * 9.9


def test_429_of_a_permit_from_before_the_gate_says_nothing_about_the_rate_after_it(client):
    bucket = bucket_of(client).warm()
    late = bucket.acquire()
    bucket.now += SECOND
    bucket.run("close_gate", SECOND, "429", 1, bucket.acquire().epoch)
    lowered = bucket.field("rate")

    bucket.now += 5 * SECOND
    bucket.run("close_gate", 3 * SECOND, "429", 1, late.epoch)

    assert bucket.field("rate") == lowered
    assert bucket.acquire().word == "gate"


def test_rate_never_falls_below_one_call_in_two_seconds(client):
    bucket = bucket_of(client)

    for _ in range(40):
        bucket.close(1)
        bucket.now += 3 * SECOND

    assert bucket.field("mark") == 0.5
    bucket.settle(bucket.acquire(), ok=True)
    bucket.now += 10 * SECOND
    assert len(bucket.drain()) >= 1


def test_idle_fleet_learns_nothing(client):
    bucket = bucket_of(client)
    bucket.close(1)
    bucket.now += 2 * SECOND
    bucket.settle(bucket.acquire(), ok=True)
    before = bucket.field("rate")

    bucket.now += 600 * SECOND

    assert float(bucket.raw("peek")[8]) == before
