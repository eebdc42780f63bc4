"""What the limiter's benchmark makes of what a sandbox counted."""

from benchmarks.limiter.figures import figures, half_of, settled, table
from benchmarks.limiter.runs import ALL, OURS, PLAIN, Run, select


def columns(**changes: list[float]) -> dict[str, list[float]]:
    """A run of 120 s at 10/s in which 5/s pass in the first half and 10/s in the second."""
    counted: dict[str, list[float]] = {
        "passed": [5] * 60 + [10] * 60,
        "rejected_429": [0] * 120,
        "neighbour": [0] * 120,
        "neighbour_429": [0] * 120,
        "available": [10] * 120,
    }
    return counted | changes


class TestFigures:
    def test_the_steady_state_begins_after_a_quarter_of_the_run_and_in_a_minute_with_a_whole_one(self) -> None:
        by_second, by_minute = (figures(Run(OURS, kind), columns()) for kind in ("token-bucket", "minute"))
        assert round(by_second.share, 3) == round((30 * 5 + 60 * 10) / 900, 3)
        assert by_minute.share == 1
        assert by_second.share_all == by_minute.share_all == 0.75

    def test_the_share_is_of_what_the_neighbour_left(self) -> None:
        found = figures(Run(OURS, "minute", neighbour=True), columns(neighbour=[5] * 120, available=[5] * 120))
        assert found.share_all == 1.5
        assert found.neighbour_lost == 0

    def test_429s_are_a_share_of_all_calls_and_the_neighbour_s_of_its_own(self) -> None:
        refused = columns(rejected_429=[0] * 60 + [2.5] * 60, neighbour=[3] * 120, neighbour_429=[1] * 120)
        found = figures(Run(OURS, "minute"), refused)
        assert found.rejected == 0.2
        assert round(found.rejected_all, 4) == round(150 / 1050, 4)
        assert found.neighbour_lost == 0.25

    def test_half_of_the_work_is_what_the_limit_nominally_lets_through_in_half_the_time(self) -> None:
        alone, beside = Run(OURS, "token-bucket"), Run(OURS, "token-bucket", neighbour=True)
        assert (half_of(alone), round(half_of(beside))) == (600, 420)
        assert figures(alone, columns()).half_seconds == 90
        assert figures(alone, columns(passed=[4] * 120)).half_seconds is None

    def test_a_lower_limit_is_settled_once_share_and_429s_hold_to_the_end(self) -> None:
        run = Run(OURS, "token-bucket", really=6)
        counted = columns(passed=[6] * 120, rejected_429=[1] * 40 + [0] * 80, available=[6] * 120)
        found = figures(run, counted).settled_seconds
        # At most 1 % of the calls from then on: 5 of 515.
        assert found == 35
        assert "10/s configured and really 6/s: settled after 35 s" in settled(run, counted)
        assert figures(run, columns(passed=[3] * 120, available=[6] * 120)).settled_seconds is None

    def test_the_table_has_a_line_a_run(self) -> None:
        runs = [Run(OURS, "minute"), Run(PLAIN, "minute", neighbour=True)]
        head, rule, *lines = table((run, {"columns": columns()}) for run in runs).splitlines()
        assert head.count("|") == rule.count("|")
        assert ["Retroscribe" in lines[0], "plain Celery" in lines[1]] == [True, True]
        assert "100.0%" in lines[0]


class TestRuns:
    def test_each_run_has_a_name_of_its_own_and_is_found_by_it(self) -> None:
        names = [run.name for run in ALL]
        assert len(set(names)) == len(names)
        assert [run.name for run in select(["ours-minute-10x4"], None, quick=False)] == ["ours-minute-10x4"]

    def test_patterns_fit_parts_of_names_and_another_length_is_for_each(self) -> None:
        found = select(["plain*neighbour", "really"], 15, quick=False)
        assert {run.contender for run in found if run.neighbour} == {PLAIN}
        assert any(run.really for run in found)
        assert {run.seconds for run in found} == {15}
