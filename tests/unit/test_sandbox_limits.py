"""Each kind of the sandbox's limiter counts as its name says, and a neighbour takes its share; the clock is virtual."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.limits import LIMITERS, FixedWindow, Limits, SlidingSecond

KINDS = list(LIMITERS)
# Binary fractions, so that moments are what they look like.
START = 1003.75
RATE = 8
ROUNDING = 1e-6

kinds = st.sampled_from(KINDS)
rates = st.one_of(st.floats(0.1, 1), st.floats(1, 200))
gaps = st.lists(st.floats(0, 3), max_size=200)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(kind: str, clock: Clock, rate: float = RATE) -> Limits:
    return Limits(kind, rate, shared=False, clock=clock)


def burst(limits: Limits, calls: int = 1000) -> int:
    """How many of as many calls at once pass."""
    return [limits.take("submit") for _ in range(calls)].count(None)


def passed_at(limits: Limits, clock: Clock, seconds: float, per_second: float = 128) -> Iterator[float]:
    """When calls pass, seconds from the start, if one comes every so often."""
    for _ in range(round(seconds * per_second)):
        if limits.take("submit") is None:
            yield clock.now - START
        clock.now += 1 / per_second


class TestKinds:
    @pytest.mark.parametrize(("kind", "at_once"), [(k, 60 * RATE if k == "minute" else RATE) for k in KINDS])
    def test_what_passes_at_once_is_a_second_s_worth_and_of_a_minute_all_of_it(
        self, clock: Clock, kind: str, at_once: int
    ) -> None:
        assert burst(made(kind, clock)) == at_once

    @pytest.mark.parametrize("kind", KINDS)
    def test_calls_at_the_pace_of_the_limit_all_pass(self, clock: Clock, kind: str) -> None:
        limits = made(kind, clock)
        assert len(list(passed_at(limits, clock, 120, per_second=RATE))) == 120 * RATE

    @given(kind=kinds, rate=rates, gaps=gaps)
    def test_retry_after_is_whole_seconds_and_never_too_few(self, kind: str, rate: float, gaps: list[float]) -> None:
        limiter, now = LIMITERS[kind](rate, START), START
        for gap in gaps:
            now += gap
            wait = limiter.take(now)
            if wait is not None:
                assert isinstance(wait, int)
                assert wait >= 1
                now += wait + ROUNDING
                assert limiter.take(now) is None

    @given(rate=rates, gaps=gaps)
    def test_no_second_of_a_sliding_limit_has_more_calls_than_the_rate(self, rate: float, gaps: list[float]) -> None:
        limiter, now = SlidingSecond(rate), START
        passed = []
        for gap in gaps:
            now += gap / 10
            if limiter.take(now) is None:
                passed.append(now)
        window = max(1, 1 / rate)
        for first in passed:
            assert sum(1 for at in passed if first <= at < first + window) <= max(1, rate)

    @given(rate=rates, gaps=gaps, seconds=st.sampled_from([1.0, 60.0]))
    def test_no_fixed_window_has_more_calls_than_the_rate_gives_it(
        self, rate: float, gaps: list[float], seconds: float
    ) -> None:
        limiter, now = FixedWindow(rate, 0.0, seconds=seconds, tells=False), START
        window = max(seconds, 1 / rate)
        passed: dict[float, int] = {}
        for gap in gaps:
            now += gap / 10
            if limiter.take(now) is None:
                passed[now // window] = passed.get(now // window, 0) + 1
        assert all(count <= rate * window + ROUNDING for count in passed.values())

    def test_a_fixed_second_allows_twice_the_rate_across_its_border_and_a_sliding_one_does_not(
        self, clock: Clock
    ) -> None:
        fixed, sliding = made("fixed-second", clock), made("sliding-second", clock)
        clock.now += 0.875
        before = burst(fixed), burst(sliding)
        clock.now += 0.25
        assert before == (8, 8)
        assert (burst(fixed), burst(sliding)) == (8, 0)

    def test_a_minute_that_is_used_up_tells_to_wait_for_its_end(self, clock: Clock) -> None:
        limits = made("minute", clock)
        clock.now += 17.5
        assert burst(limits) == 480
        assert limits.take("submit") == 43
        clock.now += 43
        assert limits.take("submit") is None

    def test_only_a_minute_tells_what_was_counted_what_is_allowed_and_the_seconds_left(self, clock: Clock) -> None:
        told = {}
        for kind in KINDS:
            limits = made(kind, clock)
            clock.now += 17.5
            limits.take("submit")
            limits.take("submit")
            told[kind] = limits.headers("submit")
        counted = {"inin-ratelimit-count": "2", "inin-ratelimit-allowed": "480", "inin-ratelimit-reset": "43"}
        assert told == {"token-bucket": {}, "fixed-second": {}, "sliding-second": {}, "minute": counted}


class TestRate:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_rate_that_changes_holds_from_then_on(self, clock: Clock, kind: str) -> None:
        limits = made(kind, clock)
        list(passed_at(limits, clock, 60, per_second=RATE))
        limits.set_rate(4)
        lowered = len(list(passed_at(limits, clock, 60)))
        limits.set_rate(16)
        raised = len(list(passed_at(limits, clock, 60)))
        # A bucket starts with what is left in it, at most a second's worth.
        assert 240 <= lowered <= 244
        assert 960 <= raised <= 964

    @pytest.mark.parametrize("kind", KINDS)
    def test_after_a_change_retry_after_is_not_too_few_seconds_either(self, clock: Clock, kind: str) -> None:
        limits = made(kind, clock)
        list(passed_at(limits, clock, 1.5, per_second=RATE))
        limits.set_rate(0.3)
        burst(limits)
        wait = limits.take("submit")
        assert wait is not None
        clock.now += wait + ROUNDING
        assert limits.take("submit") is None

    def test_each_class_changes_in_proportion_but_the_token_s(self, clock: Clock) -> None:
        limits = made("fixed-second", clock)
        limits.set_rate(6)
        passed = {name: [limits.take(name) for _ in range(50)].count(None) for name in ("media", "status", "token")}
        assert passed == {"media": 12, "status": 6, "token": 1}

    def test_a_shared_limit_changes_once(self, clock: Clock) -> None:
        limits = Limits("fixed-second", RATE, shared=True, clock=clock)
        limits.set_rate(6)
        assert limits.take("media") is None
        assert burst(limits) == 5


class TestNeighbour:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_takes_its_shares_one_after_the_other_and_what_it_leaves_passes(self, clock: Clock, kind: str) -> None:
        limits = made(kind, clock)
        limits.set_neighbour((0, 0.5, 0.25, 0.75), 12)
        ours = len(list(passed_at(limits, clock, 60, per_second=2)))
        series = limits.series()
        taken = [sum(series["neighbour"][start : start + 12]) for start in range(0, 60, 12)]
        assert taken == [0, 48, 24, 72, 0]
        assert ours == sum(series["passed"]) == 120
        assert sum(series["available"]) == 480 - sum(taken)
        assert sum(series["rejected_429"]) + sum(series["neighbour_429"]) == 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_draws_on_the_same_limit(self, clock: Clock, kind: str) -> None:
        limits = made(kind, clock)
        limits.set_neighbour((0.75,), 60)
        ours = len(list(passed_at(limits, clock, 60, per_second=RATE)))
        series = limits.series()
        assert ours < 480
        assert sum(series["neighbour"]) > 0
        # A bucket has a second's worth to start with.
        assert 480 <= ours + sum(series["neighbour"]) <= 488

    def test_it_is_evenly_spread_and_does_not_try_again_what_was_refused(self, clock: Clock) -> None:
        limits = made("fixed-second", clock)
        limits.set_neighbour((0.5,), 3)
        clock.now += 1
        burst(limits)
        clock.now += 2
        series = limits.series()
        assert series["neighbour"] == [4, 0, 4]
        assert series["neighbour_429"] == [0, 4, 0]

    @given(shares=st.lists(st.floats(0, 1), max_size=5), looks=st.lists(st.floats(0.001, 3), max_size=30), rate=rates)
    def test_how_often_one_looks_changes_nothing(self, shares: list[float], looks: list[float], rate: float) -> None:
        calls = []
        for steps in (looks, [sum(looks)]):
            clock = Clock()
            limits = made("token-bucket", clock, rate)
            limits.set_neighbour(tuple(shares), 4)
            for step in steps:
                clock.now += step
                limits.series()
            series = limits.series()
            calls.append(sum(series["neighbour"]) + sum(series["neighbour_429"]))
        assert abs(calls[0] - calls[1]) <= 1

    def test_it_follows_a_rate_that_changes(self, clock: Clock) -> None:
        limits = made("token-bucket", clock)
        limits.set_neighbour((0.5,), 20)
        clock.now += 10
        limits.set_rate(16)
        clock.now += 10
        series = limits.series()
        assert (sum(series["neighbour"][:10]), sum(series["neighbour"][10:])) == (40, 80)


class TestSeries:
    def test_it_has_every_whole_second_and_what_was_available_in_it(self, clock: Clock) -> None:
        limits = made("fixed-second", clock)
        burst(limits, 12)
        clock.now += 1.5
        limits.set_rate(6)
        burst(limits, 3)
        clock.now += 1.5
        assert limits.series() == {
            "first_second": 0,
            "passed": [8, 3, 0],
            "rejected_429": [4, 0, 0],
            "neighbour": [0, 0, 0],
            "neighbour_429": [0, 0, 0],
            "available": [8, 7, 6],
        }

    def test_no_more_than_the_last_hour_is_shown(self, clock: Clock) -> None:
        limits = made("token-bucket", clock)
        clock.now += 5000
        series = limits.series()
        assert (series["first_second"], len(series["passed"])) == (1400, 3600)

    def test_a_restart_makes_limits_unused_and_forgets_series_and_neighbour_but_not_the_rate(
        self, clock: Clock
    ) -> None:
        limits = made("minute", clock)
        limits.set_neighbour((0.5,), 60)
        limits.set_rate(6)
        clock.now += 30
        burst(limits)
        limits.restart()
        clock.now += 10
        assert limits.series() == {
            "first_second": 0,
            **{name: [0] * 10 for name in ("passed", "rejected_429", "neighbour", "neighbour_429")},
            "available": [6] * 10,
        }
        assert burst(limits) == 360
        assert limits.take("submit") == 50
