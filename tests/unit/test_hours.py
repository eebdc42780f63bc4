"""Quiet hours by the clock on the wall: over midnight, and where the clock skips an hour or shows it twice."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from workers.errors import InputError
from workers.pipeline import hours as quiet
from workers.pipeline.hours import hours, may_go, read_hours

MADRID = "Europe/Madrid"
NIGHT = "20:00-06:00 Europe/Madrid"
HOUR = 3600


def at(text: str, zone: str = MADRID, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("between", "shown", "opens"),
    [
        ("09:00-17:00", "2026-06-01 08:59:59", "2026-06-01 09:00"),
        ("09:00-17:00", "2026-06-01 17:00", "2026-06-02 09:00"),
        ("20:00-06:00", "2026-06-01 06:00", "2026-06-01 20:00"),
        ("20:00-06:00", "2026-12-31 19:59", "2026-12-31 20:00"),
        ("00:00-06:00", "2026-06-01 12:00", "2026-06-02 00:00"),
        ("20:00-00:00", "2026-06-01 00:00", "2026-06-01 20:00"),
    ],
)
def test_it_opens_when_the_clock_comes_to_the_first_time(between: str, shown: str, opens: str) -> None:
    one = hours(f"{between} {MADRID}")

    assert not one.is_open(at(shown))
    assert one.opens_at(at(shown)) == at(opens)
    assert one.is_open(at(opens))
    assert not one.is_open(at(opens) - 1)


@pytest.mark.parametrize("shown", ["2026-06-01 20:00", "2026-06-01 23:59:59", "2026-06-02 00:00", "2026-06-02 05:59"])
def test_over_midnight_it_is_open_on_both_sides_and_closes_in_the_morning(shown: str) -> None:
    one = hours(NIGHT)

    assert one.is_open(at(shown))
    assert one.opens_at(at(shown)) == at(shown)
    assert one.closes_at(at(shown)) == at("2026-06-02 06:00")


def test_a_time_that_the_clock_skips_opens_and_closes_where_it_jumps() -> None:
    jump = at("2026-03-29 03:00")

    assert hours(f"02:30-05:00 {MADRID}").opens_at(jump - HOUR) == jump
    assert hours(f"20:00-02:30 {MADRID}").closes_at(jump - HOUR) == jump
    assert hours(f"02:10-02:50 {MADRID}").opens_at(jump - HOUR) == at("2026-03-30 02:10")


def test_an_hour_that_the_clock_shows_twice_happens_twice() -> None:
    first, second = at("2026-10-25 02:15"), at("2026-10-25 02:15", fold=1)
    assert second - first == HOUR
    quarter = hours(f"02:15-02:30 {MADRID}")
    until = hours(f"20:00-02:30 {MADRID}")
    since = hours(f"02:30-05:00 {MADRID}")

    assert (quarter.opens_at(first - 1), quarter.closes_at(first), quarter.opens_at(first + HOUR / 2)) == (
        first,
        first + HOUR / 4,
        second,
    )
    back = at("2026-10-25 02:00", fold=1)
    assert until.opens_at(back - HOUR / 4) == back
    assert since.closes_at(back - HOUR / 4) == back


def test_the_same_moment_is_judged_by_the_zone_that_is_named() -> None:
    moment = at("2026-06-01 18:30", "UTC")

    assert may_go(NIGHT, moment)
    assert not may_go("20:00-06:00 UTC", moment)
    assert may_go(None, moment)


def test_work_goes_on_only_while_it_is_open() -> None:
    one = hours(NIGHT)

    assert one.after_open(at("2026-06-01 21:00"), 2 * HOUR) == at("2026-06-01 23:00")
    assert one.after_open(at("2026-06-01 12:00"), 2 * HOUR) == at("2026-06-01 22:00")
    assert one.after_open(at("2026-06-02 05:00"), 12 * HOUR) == at("2026-06-03 21:00")
    # Ten hours a night, but for the one in which the clock skips an hour.
    assert one.after_open(at("2026-03-28 20:00"), 10 * HOUR) == at("2026-03-29 21:00")


def test_what_never_ends_is_not_computed_for_ever() -> None:
    assert hours("02:00-02:01 UTC").after_open(at("2026-06-01 00:00", "UTC"), 1e9) > at("2035-06-01 00:00", "UTC")


def test_what_a_person_writes_is_kept_with_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "get_localzone_name", lambda: "America/Lima")

    assert str(read_hours("8:00 - 6:05", MADRID)) == "08:00-06:05 Europe/Madrid"
    assert str(read_hours("20:00-06:00", None)) == "20:00-06:00 America/Lima"
    assert hours(str(read_hours("20:00-06:00", None))) == read_hours("20:00-06:00", "America/Lima")


@pytest.mark.parametrize("unknown", [ValueError, None])
def test_a_machine_without_a_zone_is_in_utc(unknown: type[Exception] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def name() -> None:
        if unknown:
            raise unknown("no such zone")

    monkeypatch.setattr(quiet, "get_localzone_name", name)

    assert str(read_hours("20:00-06:00", None)) == "20:00-06:00 UTC"


@pytest.mark.parametrize("between", ["20-6", "24:00-06:00", "20:00", "20:00-06:60", "", "nine to five"])
def test_anything_else_is_refused_with_an_example(between: str) -> None:
    with pytest.raises(InputError, match="write it as 20:00-06:00"):
        read_hours(between, MADRID)


def test_equal_times_are_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"begins and ends at the same time: leave it out .*\.$"):
        read_hours("20:00-20:00", MADRID)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../etc/passwd", "/etc/passwd", "Europe/"])
def test_an_unknown_zone_is_refused_by_its_name(zone: str) -> None:
    with pytest.raises(InputError, match=f"--time-zone '{zone}' is not known"):
        read_hours("20:00-06:00", zone)
