"""What a sample says of the whole: within its bounds, exact when it is the whole, and right 95 times in 100."""

import math
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.pipeline.estimates import FEWEST_FOR_A_RANGE, Estimate, mean_of, share_of

MOST = 1800.0
seconds = st.floats(0, MOST, allow_nan=False)


@given(sample=st.lists(seconds, min_size=1, max_size=200), more=st.integers(0, 10**7))
def test_a_mean_lies_in_its_range_and_the_range_within_what_is_possible(sample: list[float], more: int) -> None:
    found = mean_of(sample, len(sample) + more, most=MOST)

    assert found is not None
    assert found.value == pytest.approx(fmean(sample))
    if found.low is not None and found.high is not None:
        assert 0 <= found.low <= found.value <= found.high <= max(MOST, found.value)


@given(sample=st.lists(seconds, min_size=1, max_size=50))
def test_a_sample_that_is_the_whole_leaves_no_doubt(sample: list[float]) -> None:
    found = mean_of(sample, len(sample), most=MOST)

    assert found is not None
    assert found.low == found.value == found.high


@given(n=st.integers(1, 300), hits=st.integers(0, 300), more=st.integers(1, 10**7))
def test_a_share_lies_in_its_range_and_none_found_does_not_mean_that_there_is_none(
    n: int, hits: int, more: int
) -> None:
    hits = min(n, hits)
    found = share_of(hits, n, n + more)

    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.high > 0, found.low < 1) == (True, True)


def test_nothing_looked_at_says_nothing() -> None:
    assert (mean_of([], 9, most=MOST), share_of(0, 0, 9)) == (None, None)


def test_too_few_or_equal_values_give_a_figure_without_a_range() -> None:
    assert mean_of([60.0] * (FEWEST_FOR_A_RANGE - 1), 1000, most=MOST) == Estimate(60, None, None)
    assert mean_of([60.0] * 100, 1000, most=MOST) == Estimate(60, None, None)


def test_a_share_has_the_range_that_wilson_gives_it() -> None:
    # Wilson (1927) for 4 of 50 from a whole without end: 3.2 to 18.8 %.
    found = share_of(4, 50, 10**9)

    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.0315, abs=1e-4), pytest.approx(0.1884, abs=1e-4))


def test_a_mean_without_skewness_has_the_range_of_students_t() -> None:
    # Ten values, mean 100, deviation 10.54: t is 2.262 with 9 degrees of freedom.
    found = mean_of([90.0, 110.0] * 5, 10**9, most=MOST)

    half = 2.262 * math.sqrt(1000 / 9) / math.sqrt(10)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(100 - half, abs=0.01), pytest.approx(100 + half, abs=0.01))


@pytest.mark.parametrize(("size", "least"), [(10, 0.90), (50, 0.93)])
def test_the_range_of_call_lengths_holds_as_often_as_it_says(size: int, least: float) -> None:
    """Lengths as real ones are (lognormal, cut at what is transcribed), with 4 % that would be rejected."""
    chance = random.Random(7)
    drawn = (0.0 if chance.random() < 0.04 else chance.lognormvariate(math.log(282), 0.8) for _ in range(100_000))
    lengths = [length if length <= MOST else 0.0 for length in drawn]
    truth = fmean(lengths)

    ranges = [mean_of(chance.sample(lengths, size), len(lengths), most=MOST) for _ in range(1000)]

    held = [
        one for one in ranges if one and one.low is not None and one.high is not None and one.low <= truth <= one.high
    ]
    assert least <= len(held) / len(ranges) <= 0.98
