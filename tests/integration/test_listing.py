"""What a person reads who asks what became of a list: every entry of it, page by page, and the unusable ones apart."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import bare_environment, run_command
from tests.support.command import command as command_line
from tests.support.desk import Desk
from tests.support.desk_command import DeskCommand
from workers.ledger import backfills, listing
from workers.model import Reason, Recording, State
from workers.pipeline.listing import entries

OK, USAGE = 0, 2


@pytest.fixture
def command(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> DeskCommand:
    return DeskCommand(desk, monkeypatch, capsys)


@pytest.fixture(autouse=True)
def in_greenwich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture(params=[1, 2, 500])
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """However many rows a page has, the list is the same."""
    size: int = request.param
    for name in ("_SHARED", "_SHARED_ONCE", "_UNUSABLE"):
        monkeypatch.setattr(listing, name, getattr(listing, name).limit(size))
    monkeypatch.setattr(listing, "PAGE", size)
    listing._ids.cache_clear()
    yield size
    listing._ids.cache_clear()


def ended(desk: Desk, recording: Recording, state: State, reason: Reason) -> None:
    desk.set(recording, state=state, reason=reason, due_at=None, changed_at=1_800_000_000.0)


def media_ids(command: DeskCommand, *arguments: str) -> list[str]:
    answer = command("list", *arguments)
    assert answer.code == OK
    return [line.split()[0] for line in answer.out.splitlines()]


@pytest.mark.both_ledgers
@pytest.mark.usefixtures("page")
class TestList:
    def test_each_recording_has_a_line_in_the_order_of_the_list(self, desk: Desk, command: DeskCommand) -> None:
        first, *_ = desk.ask([f"m-{number}" for number in range(5)])
        ended(desk, first, State.FAILED, Reason.REQUEST_REFUSED)
        desk.ask(["m-of-another"], backfill="q4")

        answer = command("list", "q3")

        lines = answer.out.splitlines()
        assert [line.split()[0] for line in lines] == ["m-0", "m-1", "m-2", "m-3", "m-4"]
        assert lines[0].split() == ["m-0", "failed", "request_refused", "2027-01-15", "08:00:00", "UTC", "-"]
        assert lines[1].split()[1:3] == ["pending", "-"]
        assert answer.err == ""

    def test_states_and_reason_narrow_it(self, desk: Desk, command: DeskCommand) -> None:
        recordings = desk.ask([f"m-{number}" for number in range(7)])
        ends = [
            (State.FAILED, Reason.REQUEST_REFUSED),
            (State.INDEXED, Reason.EMPTY),
            (State.REJECTED, Reason.CODEC_UNSUPPORTED),
            (State.FAILED, Reason.ATTEMPTS_EXHAUSTED),
            (State.FAILED, Reason.REQUEST_REFUSED),
            (State.VALIDATED, Reason.GIVEN_BACK),
        ]
        for one, (state, reason) in zip(recordings, ends, strict=False):
            desk.set(one, state=state, reason=reason)

        assert media_ids(command, "q3", "--state", "failed") == ["m-0", "m-3", "m-4"]
        assert media_ids(command, "q3", "--state", "failed", "--state", "pending") == ["m-0", "m-3", "m-4", "m-6"]
        assert media_ids(command, "q3", "--reason", "request_refused") == ["m-0", "m-4"]
        assert media_ids(command, "q3", "--reason", "empty") == ["m-1"]
        assert media_ids(command, "q3", "--reason", "given_back") == ["m-5"]
        assert media_ids(command, "q3", "--state", "rejected", "--reason", "codec_unsupported") == ["m-2"]

    def test_an_entry_that_was_asked_for_before_is_listed_and_marked(self, desk: Desk, command: DeskCommand) -> None:
        (shared, _) = desk.ask(["m-1", "m-2"], backfill="q2")
        ended(desk, shared, State.INDEXED, Reason.EMPTY)
        desk.ask(["m-1", "m-3", "m-3", "m-2"], backfill="q3")

        lines = command("list", "q3").out.splitlines()
        found = [
            (one.media_id, one.entry, one.duplicate, one.backfill, one.state) for one in entries(desk.resources, "q3")
        ]

        assert found == [
            ("m-3", 3, False, "q3", State.PENDING),
            ("m-1", 2, True, "q2", State.INDEXED),
            ("m-3", 4, True, "q3", State.PENDING),
            ("m-2", 5, True, "q2", State.PENDING),
        ]
        assert [line.rpartition("  ")[2] for line in lines[1:]] == [f"duplicate, in q{number}" for number in (2, 3, 2)]
        assert media_ids(command, "q3", "--own") == ["m-3"]
        assert media_ids(command, "q3", "--state", "indexed", "--reason", "empty") == ["m-1"]

    def test_unusable_entries_are_listed_by_themselves_and_the_counts_add_up(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        desk.ask(["m-1", "m-1", "m-2"])
        with desk.resources.ledger.write() as tx:
            target = backfills.ensure(tx, "q3", {})
            bad = [backfills.Refused(number, "a\x1b[2J/b,en", "media_id: not an id") for number in (8, 9, 10)]
            backfills.refuse(tx, target, bad)

        shown = command("list", "q3", "--unusable")
        as_json = command("list", "q3", "--unusable", "--json")

        assert shown.out.splitlines()[0] == "entry 8: media_id: not an id  a\ufffd[2J/b,en"
        assert shown.out.count("\n") == as_json.out.count("\n") == 3
        listed = len(media_ids(command, "q3")) + 3
        assert listed == command("status", "q3", "--json").json["requested"] == 6

    def test_nothing_to_list_is_said_and_is_no_error(self, desk: Desk, command: DeskCommand) -> None:
        desk.ask(["m-1"])

        answer = command("list", "q3", "--state", "failed", "--reason", "overdue")
        unusable = command("list", "q3", "--unusable")

        assert (answer.code, answer.out) == (OK, "")
        assert answer.err == "Nothing to list: q3 has no failed recordings with the reason overdue.\n"
        assert (unusable.code, unusable.out) == (OK, "")
        assert unusable.err == "Nothing to list: every entry of q3 could be used.\n"

    def test_a_recording_that_moves_on_meanwhile_is_listed_once(self, desk: Desk, page: int) -> None:
        recordings = desk.ask([f"m-{number}" for number in range(6)])
        found = []
        for number, one in enumerate(entries(desk.resources, "q3")):
            found.append(one.media_id)
            desk.set(recordings[number], state=State.INDEXED)
            desk.set(recordings[-1 - number], state=State.REJECTED)

        assert found == [one.media_id for one in recordings]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nope"], "There is no backfill 'nope'"),
        (["q3", "--state", "lost"], "'lost' is not one of"),
        (["q3", "--reason", "bad_luck"], "'bad_luck' is not one of"),
        (["q3", "--unusable", "--state", "failed"], "leave --state, --reason and --own out"),
        (["q3", "--unusable", "--own"], "leave --state, --reason and --own out"),
    ],
)
def test_wrong_use_is_one_sentence(desk: Desk, command: DeskCommand, arguments: list[str], sentence: str) -> None:
    desk.ask(["m-1"])

    answer = command("list", *arguments)

    assert (answer.code, answer.out, sentence in answer.err) == (USAGE, "", True), answer
    assert answer.err.count("\n") == 1


def test_a_reader_that_has_had_enough_ends_it_in_silence(desk: Desk, environment: dict[str, str]) -> None:
    desk.ask([f"{number:0100}" for number in range(1500)])
    process = subprocess.Popen(
        command_line("list", "q3", "--json"),
        env=bare_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None

    assert process.stdout.readline().startswith(b'{"media_id": "0')
    process.stdout.close()

    assert (process.stderr.read(), process.wait(30)) == (b"", OK)
    process.stderr.close()


def test_without_a_ledger_it_names_the_path_and_makes_none(tmp_path: Path) -> None:
    answer = run_command("list", "q3", folder=tmp_path)

    assert (answer.returncode, answer.stdout) == (4, "")
    assert answer.stderr.startswith("retroscribe: There is no ledger at ")
