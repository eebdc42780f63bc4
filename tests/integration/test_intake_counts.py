"""A long list with bad lines, duplicates and recordings done before: each line counted once, none stored twice."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tests.support.desk import Desk
from tests.support.desk_command import Answer, DeskCommand
from workers.ledger import backfills
from workers.ledger.funnel import Funnel, funnel
from workers.ledger.tables import duplicates, intake_rejects, recordings
from workers.model import State

LINES = 20_000
#: Of each hundred lines one is bad, five ask for what an earlier line asked for, and five for what is done already.
BAD, TWICE, DONE = 1, 5, 5
BAD_LINES = ("two words,en-US", ",en-US", "calls/5,", "a,english!", "a,en-US,more")


@dataclass(frozen=True, slots=True)
class Lists:
    """A list that was done before, and the one that repeats some of it."""

    before: Path
    calls: Path
    hundreds: int


def write_lists(folder: Path, lines: int) -> Lists:
    lists = Lists(folder / "before.csv", folder / "calls.csv", lines // 100)
    with lists.before.open("w") as before, lists.calls.open("w") as calls:
        before.write("media_id,languages\n")
        calls.write("media_id,languages\n")
        for hundred in range(lists.hundreds):
            calls.write(f"{BAD_LINES[hundred % len(BAD_LINES)]}\n")
            calls.writelines(f"call-{hundred}-{at},\n" for at in range(100 - BAD - TWICE - DONE))
            # Some from far back in the list, some from these very lines, and in the same languages said otherwise.
            calls.writelines(f"call-{hundred * at // TWICE}-{at},EN-us\n" for at in range(TWICE))
            for at in range(DONE):
                before.write(f"done-{hundred}-{at},en-US\n")
                calls.write(f"done-{hundred}-{at},\n")
    return lists


def counts(desk: Desk) -> Funnel:
    with desk.resources.ledger.read() as tx:
        found = backfills.by_name(tx, "calls")
        assert found is not None
        return funnel(tx, found.id)


def rows(desk: Desk) -> tuple[int, ...]:
    """How many rows there are of all that intake stores."""
    with desk.resources.ledger.read() as tx:
        tables = (recordings, duplicates, intake_rejects)
        return tuple(tx.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)


def done(desk: Desk) -> None:
    with desk.resources.ledger.write() as tx:
        tx.execute(recordings.update().values(state=State.INDEXED))


def said(answer: Answer) -> str:
    """The sentence about what became of the list."""
    return next(line for line in answer.err.splitlines() if line.startswith("calls:"))


def check(desk: Desk, command: DeskCommand, folder: Path, lines: int) -> None:
    """Takes a list of so many lines in, twice."""
    lists = write_lists(folder, lines)
    hundreds = lists.hundreds
    command("run", str(lists.before), "--no-follow")
    done(desk)

    first = command("run", str(lists.calls), "--no-follow")

    new, again = hundreds * (100 - BAD - TWICE - DONE), hundreds * (TWICE + DONE)
    assert said(first) == f"calls: {new} new, {again} asked for before, {hundreds * BAD} unusable"
    found = counts(desk)
    assert found.requested == lines
    assert found.states == {State.PENDING: new}
    assert found.duplicates_by_state == {State.PENDING: hundreds * TWICE, State.INDEXED: hundreds * DONE}
    assert found.shared_by_state == {State.INDEXED: hundreds * DONE}
    assert found.intake_rejects == hundreds * BAD
    stored = rows(desk)
    assert stored == (new + hundreds * DONE, again, hundreds * BAD)
    assert len((folder / "calls.rejected.csv").read_text().splitlines()) == 1 + hundreds * BAD

    second = command("run", str(lists.calls), "--no-follow")

    known = f"{new + again} known from an earlier run of this list"
    assert said(second) == f"calls: 0 new, 0 asked for before, {known}, {hundreds * BAD} unusable"
    assert counts(desk) == found
    assert rows(desk) == stored


@pytest.mark.both_ledgers
def test_each_line_of_a_long_list_is_counted_once_and_the_same_list_again_adds_nothing(
    desk: Desk, command: DeskCommand, tmp_path: Path
) -> None:
    check(desk, command, tmp_path, LINES)


@pytest.mark.slow
def test_a_million_lines_are_counted_to_the_row(desk: Desk, command: DeskCommand, tmp_path: Path) -> None:
    check(desk, command, tmp_path, 1_000_000)


def test_a_list_that_breaks_off_says_how_many_of_it_are_taken_in(
    desk: Desk, command: DeskCommand, tmp_path: Path
) -> None:
    whole = gzip.compress(b"media_id\n" + b"".join(b"%032x\n" % (number * 7919**9) for number in range(5000)))
    calls = tmp_path / "calls.csv.gz"
    calls.write_bytes(whole[: len(whole) // 2])

    answer = command("run", str(calls), "--no-follow")

    taken, broken = answer.err.splitlines()
    stored = counts(desk).total
    assert answer.code == 2
    assert stored > 0
    assert taken == f"calls: {stored} new were taken in before that, and are transcribed."
    assert "it breaks off or is damaged after line" in broken
