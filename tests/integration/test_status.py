"""How backfills stand: what failed why, with examples and the command for it, and when the last one is submitted."""

import dataclasses
import json
import signal
import subprocess

import pytest

from tests.support.command import bare_environment
from tests.support.command import command as command_line
from tests.support.desk import Desk
from tests.support.desk_command import DeskCommand
from workers.ledger import controls, submissions
from workers.ledger.tables import backfills as backfills_table
from workers.limits.limiter import LimiterState
from workers.model import CallClass, Reason, Recording, State
from workers.pipeline.status import Status, status, statuses
from workers.pipeline.way_back import WayBack

OK, INTERRUPTED = 0, 130


@pytest.fixture
def command(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> DeskCommand:
    return DeskCommand(desk, monkeypatch, capsys)


def ended(desk: Desk, media_ids: list[str], state: State, reason: Reason | None, backfill: str = "q3") -> None:
    for one in desk.ask(media_ids, backfill=backfill):
        desk.set(one, state=state, reason=reason, due_at=None)


def submitted(desk: Desk, recording: Recording, outcome: str) -> None:
    with desk.resources.ledger.write() as tx:
        ref = f"{recording.id:032x}"
        one = submissions.open_next(tx, recording.id, callback_ref=ref, epoch=1, request_digest=bytes(32))
        submissions.settle(tx, one, outcome)


class TestFailures:
    @pytest.mark.both_ledgers
    def test_each_reason_has_its_count_the_oldest_three_and_the_command_for_it(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        ended(desk, [f"f-{number}" for number in range(5)], State.FAILED, Reason.REQUEST_REFUSED)
        ended(desk, ["a-1"], State.FAILED, Reason.ATTEMPTS_EXHAUSTED)
        ended(desk, ["r-1", "r-2"], State.REJECTED, Reason.CODEC_UNSUPPORTED)
        ended(desk, ["p-1"], State.PARKED, Reason.OVERDUE)
        ended(desk, ["p-2"], State.PARKED, Reason.OUTCOME_UNKNOWN)
        ended(desk, ["c-1"], State.CANCELLED, None)
        ended(desk, ["e-1"], State.INDEXED, Reason.EMPTY)
        ended(desk, ["x-1"], State.FAILED, Reason.REQUEST_REFUSED, backfill="q4")

        text, found = command("status", "q3").out, command("status", "q3", "--json").json

        assert found["examples"] == [
            {"state": state, "reason": reason, "count": count, "media_ids": ids, "command": f"retroscribe {way}"}
            for state, reason, count, ids, way in [
                ("parked", "outcome_unknown", 1, ["p-2"], "resolve q3 --reason outcome_unknown --resubmit"),
                ("parked", "overdue", 1, ["p-1"], "resolve q3 --reason overdue --resubmit --pay-again"),
                (
                    *("rejected", "codec_unsupported", 2, ["r-1", "r-2"]),
                    "retry q3 --state rejected --reason codec_unsupported",
                ),
                ("failed", "attempts_exhausted", 1, ["a-1"], "retry q3 --reason attempts_exhausted"),
                ("failed", "request_refused", 5, ["f-0", "f-1", "f-2"], "retry q3 --reason request_refused"),
                ("cancelled", None, 1, ["c-1"], "retry q3 --state cancelled"),
            ]
        ]
        assert found["failed_reasons"] == {"attempts_exhausted": 1, "request_refused": 5}
        assert found["empty"] == 1
        lines = [line.rstrip() for line in text.splitlines()]
        at = lines.index("5 failed (request_refused): `retroscribe retry q3 --reason request_refused`")
        assert lines[at + 1] == "    f-0, f-1, f-2, ..."
        assert "    r-1, r-2" in lines
        assert "1 cancelled: `retroscribe retry q3 --state cancelled`" in lines

    @pytest.mark.both_ledgers
    def test_every_command_that_is_shown_does_something_about_all_of_them(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        ended(desk, ["m-1"], State.FAILED, Reason.REQUEST_REFUSED)
        ended(desk, ["m-2"], State.REJECTED, Reason.MEDIA_NOT_FOUND)
        ended(desk, ["m-3"], State.CANCELLED, None)
        ended(desk, ["m-4"], State.FAILED, Reason.DROPPED)
        ended(desk, ["m-5"], State.PARKED, Reason.OVERDUE)
        (dropped,) = [one for one in desk.ask(["m-4"]) if one.media_id == "m-4"]
        submitted(desk, dropped, submissions.UNKNOWN)

        shown = [one["command"].split()[1:] for one in command("status", "q3", "--json").json["examples"]]

        assert ["retry", "q3", "--reason", "dropped", "--pay-again"] in shown
        for arguments in shown:
            assert command(*arguments, *(["--yes"] if arguments[0] == "resolve" else [])).code == OK
        assert command("status", "q3", "--json").json["examples"] == []

    def test_nobody_is_told_to_pay_again_while_one_of_them_begins_anew_without(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        paid, unpaid = desk.ask(["m-1", "m-2"])
        submitted(desk, paid, submissions.UNKNOWN)
        for one in (paid, unpaid):
            desk.set(one, state=State.FAILED, reason=Reason.DROPPED, due_at=None)

        (example,) = command("status", "q3", "--json").json["examples"]

        assert example["command"] == "retroscribe retry q3 --reason dropped"


def seen(one: Status, *, waiting: int, ahead: int, **limiter: object) -> Status:
    """The status with so many unsubmitted recordings, and a submit limiter that stands like that."""
    submit = dataclasses.replace(one.limits[CallClass.SUBMIT], **limiter)  # type: ignore[arg-type]
    counts = dataclasses.replace(one.counts, states={State.PENDING: waiting})
    return dataclasses.replace(one, counts=counts, ahead=ahead, limits={**one.limits, CallClass.SUBMIT: submit})


class TestTimeLeft:
    @pytest.fixture
    def now(self, desk: Desk) -> Status:
        desk.ask(["m-1"])
        return status(desk.resources, "q3")

    def test_it_is_the_work_ahead_at_the_rate_that_is_used(self, now: Status) -> None:
        assert seen(now, waiting=100, ahead=150, granted_per_second=5.0, rate=9.9).eta_seconds == 30
        assert seen(now, waiting=100, ahead=150, granted_per_second=0.0, rate=10.0).eta_seconds == 15
        assert seen(now, waiting=0, ahead=0).eta_seconds is None

    def test_while_a_gate_is_closed_it_is_the_rate_that_is_allowed_after_it(self, now: Status) -> None:
        closed = {"gate_seconds": 40.0, "gate_reason": "429"}
        assert seen(now, waiting=10, ahead=10, granted_per_second=0.1, rate=2.0, **closed).eta_seconds == 45

        media = dataclasses.replace(now.limits[CallClass.MEDIA], gate_seconds=60.0, gate_reason="429")
        open_ = seen(now, waiting=10, ahead=10, granted_per_second=0.1, rate=2.0)
        limits: dict[CallClass, LimiterState] = {**open_.limits, CallClass.MEDIA: media}
        assert dataclasses.replace(open_, limits=limits).eta_seconds == 65

    def test_nobody_knows_it_while_nothing_is_submitted(self, now: Status, desk: Desk) -> None:
        running = seen(now, waiting=10, ahead=10, granted_per_second=5.0)
        paused = dataclasses.replace(running.backfill, state="paused")
        halt = controls.Halt("ScopeMissing", "no scope", CallClass.SUBMIT, 1.0, 2.0)

        assert running.eta_seconds == 2
        assert dataclasses.replace(running, backfill=paused).eta_seconds is None
        assert dataclasses.replace(running, halt=halt).eta_seconds is None
        assert dataclasses.replace(running, way_back=WayBack.NONE).eta_seconds is None
        assert dataclasses.replace(running, limits={}).eta_seconds is None
        down = {"gate_seconds": 8.0, "gate_reason": "unreachable", "failures": 4}
        assert seen(now, waiting=10, ahead=10, **down).eta_seconds is None

    @pytest.mark.both_ledgers
    def test_backfills_that_take_turns_count_as_far_as_they_go_before_the_last(self, desk: Desk) -> None:
        desk.ask([f"small-{number}" for number in range(2)], backfill="small")
        desk.ask([f"big-{number}" for number in range(6)], backfill="big")
        desk.ask([f"paused-{number}" for number in range(5)], backfill="paused")
        with desk.resources.ledger.write() as tx:
            tx.execute(backfills_table.update().where(backfills_table.c.name == "paused").values(state="paused"))

        assert {one.backfill.name: one.ahead for one in statuses(desk.resources)} == {
            "small": 2 + 2,
            "big": 6 + 2,
            "paused": 5 + 2 + 5,
        }
        assert status(desk.resources, "small").ahead == 4
        assert status(desk.resources, "big").ahead == 8


class TestWatch:
    def test_with_json_it_is_a_line_each_time_until_it_is_interrupted(
        self, desk: Desk, environment: dict[str, str]
    ) -> None:
        desk.ask(["m-1"])
        process = subprocess.Popen(
            command_line("status", "q3", "--watch", "--json"),
            env=bare_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None

        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)

        assert [line["states"]["pending"] for line in lines] == [1, 1]
        assert (process.stderr.read(), process.wait(30)) == (b"", INTERRUPTED)
        process.stdout.close()
        process.stderr.close()
