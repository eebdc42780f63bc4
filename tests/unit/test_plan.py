"""A plan's parts: the sample, what a list has asked for, its unusable lines, and the time that it would take."""

import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import InputError
from workers.intake.seen import Seen
from workers.intake.unusable import MOST_KINDS, Unusable
from workers.limits.limiter import LimiterState
from workers.model import CallClass, Lane
from workers.pipeline.pace import Pace, sustained
from workers.pipeline.plan import Sample

MEDIA, SUBMIT, STATUS, TOKEN = CallClass.MEDIA, CallClass.SUBMIT, CallClass.STATUS, CallClass.TOKEN
STATE = LimiterState(SUBMIT, 10, 9.9, 9.9, None, None, 0, None, False, 0, 0, 0, 0)
PACE = Pace(
    rates={MEDIA: 20.0, SUBMIT: 10.0, STATUS: 10.0, TOKEN: 1.0},
    buckets={one: one for one in CallClass},
    limit=10,
    measured=True,
    gate_seconds=0,
    looked_up=False,
    own=0,
    others={},
    lane=Lane.BACKFILL,
    obstacles=[],
)
SHARED = replace(PACE, rates={SUBMIT: 10.0, TOKEN: 1.0}, buckets=dict.fromkeys(CallClass, SUBMIT) | {TOKEN: TOKEN})


def test_each_media_id_has_the_same_chance_to_be_in_the_sample() -> None:
    chosen: Counter[str] = Counter()
    for _ in range(4000):
        sample = Sample(3)
        for number in range(12):
            sample.show(str(number))
        assert len(set(sample.chosen())) == 3
        chosen.update(sample.chosen())

    # Expected 1000 each with a deviation of 27.
    assert len(chosen) == 12
    assert all(850 < times < 1150 for times in chosen.values())


def test_a_sample_larger_than_the_whole_is_the_whole_and_none_is_none() -> None:
    all_of_them, none = Sample(9), Sample(0)
    for media_id in "abc":
        all_of_them.show(media_id)
        none.show(media_id)

    assert sorted(all_of_them.chosen()) == ["a", "b", "c"]
    assert none.chosen() == []


@given(batches=st.lists(st.sets(st.binary(min_size=32, max_size=32).map(lambda one: one[:1] * 32), max_size=150)))
def test_what_was_asked_for_before_is_known_and_nothing_else(batches: list[set[bytes]]) -> None:
    model: set[bytes] = set()
    with Seen() as seen:
        for batch in batches:
            before = seen.among(list(batch))
            assert before == batch & model
            seen.add(list(batch - before))
            model |= batch


def test_when_the_temporary_folder_is_full_then_a_sentence_says_so() -> None:
    with Seen() as seen:
        seen._db.execute("PRAGMA max_page_count = 3")
        with pytest.raises(InputError, match="set TMPDIR to a folder with more room"):
            seen.add([number.to_bytes(32, "big")[::-1] for number in range(5000)])


def test_a_temporary_file_leaves_nothing_behind() -> None:
    with Seen() as seen:
        assert seen._db.execute("PRAGMA database_list").fetchall()[0][2] == ""
    with pytest.raises(sqlite3.ProgrammingError):
        seen.among([bytes(32)])


def test_unusable_lines_are_sorted_by_what_is_wrong_whatever_their_values() -> None:
    lines = Unusable()
    for line, value in enumerate(["'a b'", "'it\\'s'", '"it\'s"', "12"], 2):
        lines.add(line, f"media_id: {value} is not an id")
    lines.add(9, "media_id: missing, and needed")

    found = [(kind.number, kind.lines, kind.reason) for kind in lines.kinds()]

    assert found == [
        (4, [2, 3, 4], "media_id: 'a b' is not an id"),
        (1, [9], "media_id: missing, and needed"),
    ]
    assert lines.number == 5


def test_no_list_makes_more_kinds_than_are_told_apart() -> None:
    lines = Unusable()
    for line in range(500):
        lines.add(line, "x" * line)

    kinds = lines.kinds()

    assert len(kinds) == MOST_KINDS + 1
    assert sum(kind.number for kind in kinds) == 500
    assert kinds[0].reason == "something else"


@pytest.mark.parametrize(
    ("pace", "usable", "seconds"),
    [
        (PACE, 1.0, 100),
        (PACE, 0.9, 90),  # submissions are the bottleneck
        (replace(PACE, rates={**PACE.rates, MEDIA: 5.0}), 1.0, 200),  # or look-ups
        (SHARED, 1.0, 200),  # both draw on one limit
        (SHARED, 0.5, 150),
        (replace(SHARED, looked_up=True), 1.0, 300),  # and the status look-ups
        (replace(PACE, looked_up=True), 1.0, 100),  # which have a limit of their own here
        (replace(PACE, gate_seconds=42), 1.0, 142),
        (replace(PACE, own=500), 1.0, 150),  # its own go first
        (replace(PACE, others={"small": 10, "large": 10**6}), 1.0, 201),  # others take turns
        (replace(PACE, lane=Lane.LIVE, others={"large": 10**6}), 1.0, 100),  # lane live does not wait for them
    ],
)
def test_the_time_follows_from_limits_and_what_else_waits(pace: Pace, usable: float, seconds: float) -> None:
    assert pace.seconds(1000, usable) == pytest.approx(seconds)
    assert pace.seconds(0, usable) == 0


def test_calls_are_a_look_up_each_a_submission_for_the_usable_ones_and_a_token_an_hour() -> None:
    calls = replace(PACE, looked_up=True).calls(100_000, 0.9)

    assert (calls.media, calls.submit, calls.status, calls.token) == (100_000, 90_000, 90_000, 3)
    assert PACE.calls(0, 1.0).token == 0


@pytest.mark.parametrize(
    ("known", "rate"),
    [
        ({}, 9.9),
        ({"rate": 4.95}, 9.9),  # just started
        ({"rate": 4.8, "learned": 6.0}, 6.0),  # just after a 429
        ({"rate": 7.5, "learned": 6.0}, 7.5),  # and it has let more through since
        ({"rate": 6.9, "others": 3.0}, 6.9),
        ({"rate": 4.95, "others": 3.0}, 6.9),
    ],
)
def test_the_rate_over_hours_is_what_is_known_to_be_let_through(known: Mapping[str, float], rate: float) -> None:
    assert sustained(replace(STATE, **known)) == pytest.approx(rate)
