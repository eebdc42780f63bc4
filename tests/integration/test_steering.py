"""What a person does to a whole backfill: it is held, goes on, or stops, and what is paid for goes on in any case."""

import getpass
import json
import os
import pty
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from config import queues
from tests.support.command import run_command
from tests.support.desk import BY, Desk, completed
from tests.support.desk_command import DeskCommand
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from workers.cli import run
from workers.ledger import recordings, submissions
from workers.model import Reason, Recording, State
from workers.pipeline import steering
from workers.pipeline.events import receive
from workers.pipeline.index import index
from workers.pipeline.pump import pump
from workers.pipeline.status import status
from workers.pipeline.submit import submit
from workers.pipeline.sweep import sweep
from workers.pipeline.validate import validate

OK, USAGE, SOME_FAILED, STUCK, INTERRUPTED = 0, 2, 3, 4, 130
PAST = 1.0


@pytest.fixture
def command(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> DeskCommand:
    return DeskCommand(desk, monkeypatch, capsys)


def everywhere(desk: Desk) -> dict[State, Recording]:
    """One recording in each state but `forgotten`, named after it."""
    states = [state for state in State if state != State.FORGOTTEN]
    asked = desk.ask([str(state) for state in states])
    return {state: desk.set(one, state=state, due_at=4e9) for state, one in zip(states, asked, strict=True)}


def sent(desk: Desk, recording: Recording, outcome: str) -> None:
    with desk.resources.ledger.write() as tx:
        one = submissions.open_next(
            tx, recording.id, callback_ref="f" * 32, epoch=recording.epoch, request_digest=bytes(32)
        )
        submissions.settle(tx, one, outcome)


def notes(desk: Desk, recording: Recording) -> list[str]:
    """The reasons in its history."""
    with desk.resources.ledger.read() as tx:
        return [row["reason"] for row in recordings.history(tx, recording.id)]


class TestPause:
    @pytest.mark.both_ledgers
    def test_it_says_what_goes_on_and_what_waits_and_may_be_repeated(self, desk: Desk, command: DeskCommand) -> None:
        everywhere(desk)

        first, again = command("pause", "q3"), command("pause", "q3")

        assert (first.code, first.err, again.code) == (OK, "", OK)
        assert first.out.startswith("q3 is paused: nothing of it is handed out or submitted until `retroscribe resume")
        assert again.out.startswith("q3 is paused already")
        assert "1 POST is on its way and is recorded." in first.out
        assert "2 recordings are accepted and go on to the end." in first.out
        assert "2 recordings are unknown or parked" in first.out
        assert "3 recordings wait in the ledger." in first.out
        assert command("pause", "q3", "--json").json == {
            "backfill": "q3",
            "state": "paused",
            "changed": False,
            "states": {str(state): int(state != State.FORGOTTEN) for state in State},
            "waiting": 3,
            "posts_on_their_way": 1,
            "unannounced": None,
        }

    @pytest.mark.both_ledgers
    def test_tasks_that_are_on_their_way_give_their_recordings_back_and_call_nobody(
        self, desk: Desk, command: DeskCommand, sandbox: Sandbox
    ) -> None:
        ready, out = desk.validated(GOOD[0]), desk.queued(GOOD[1])
        desk.set(ready, attempts=2)
        command("pause", "q3")

        assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
        assert not validate(desk.resources, out.id, out.epoch, by=BY)

        held, back = desk.now(ready), desk.now(out)
        assert (held.state, held.reason, held.attempts) == (State.VALIDATED, Reason.PAUSED, 2)
        assert (held.due_at or 0) > time.time() + 600
        assert (back.state, back.reason, back.epoch) == (State.PENDING, Reason.PAUSED, out.epoch + 1)
        assert pump(desk.resources, by=BY) == 0
        assert sandbox.stats()["submits"] == 0

    def test_one_that_is_paused_between_the_permit_and_the_intent_is_not_sent(
        self, desk: Desk, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ready = desk.validated(GOOD[0])
        acquire = desk.resources.limiter.acquire

        def paused_meanwhile(*arguments: object, **options: object) -> object:
            steering.pause(desk.resources, "q3")
            return acquire(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(desk.resources.limiter, "acquire", paused_meanwhile)

        assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
        assert (desk.state(ready), desk.now(ready).reason) == (State.VALIDATED, Reason.PAUSED)
        assert (sandbox.stats()["submits"], desk.submissions(ready)) == (0, [])

    @pytest.mark.both_ledgers
    def test_the_sweep_sends_nothing_of_it_again(self, desk: Desk, command: DeskCommand) -> None:
        ready, out = desk.validated(GOOD[0]), desk.queued(GOOD[1])
        command("pause", "q3")
        for _ in range(3):
            desk.set(ready, due_at=PAST)
            if desk.state(out) == State.QUEUED:
                desk.set(out, due_at=PAST)
            sweep(desk.resources, by=BY)

        assert (desk.state(ready), desk.state(out)) == (State.VALIDATED, State.PENDING)
        assert notes(desk, ready).count(Reason.PAUSED) == 1
        assert desk.messages(queues.SUBMIT) + desk.messages(queues.VALIDATE) == []
        assert sweep(desk.resources, by=BY) == 0

    def test_what_is_accepted_comes_to_its_end(self, desk: Desk, command: DeskCommand) -> None:
        accepted = desk.submitted(GOOD[0])
        command("pause", "q3")

        receive(
            desk.resources,
            desk.submissions(accepted)[0].callback_ref,
            completed(str(accepted.transcription_id), "hello", media_id=accepted.media_id),
        )
        index(desk.resources, accepted.id, by=BY)

        assert desk.state(accepted) == State.INDEXED

    def test_one_that_was_cancelled_is_refused(self, desk: Desk, command: DeskCommand) -> None:
        desk.ask(["m-1"])
        command("cancel", "q3", "--yes")

        answer = command("pause", "q3")

        assert (answer.code, answer.out) == (USAGE, "")
        assert "q3 was cancelled: there is nothing left to pause" in answer.err

    def test_one_that_there_is_not_is_named(self, desk: Desk, command: DeskCommand) -> None:
        desk.ask(["m-1"])

        for verb in ("pause", "resume", "cancel"):
            answer = command(verb, "nope")

            assert (answer.code, answer.out) == (USAGE, "")
            assert "There is no backfill 'nope'; there are: q3." in answer.err


class TestResume:
    @pytest.mark.both_ledgers
    def test_it_goes_on_at_once(self, desk: Desk, command: DeskCommand, sandbox: Sandbox) -> None:
        ready, out = desk.validated(GOOD[0]), desk.queued(GOOD[1])
        command("pause", "q3")
        submit(desk.resources, ready.id, ready.epoch, by=BY)
        validate(desk.resources, out.id, out.epoch, by=BY)

        first, again = command("resume", "q3"), command("resume", "q3")

        assert (first.code, first.out) == (OK, "q3 is running again: 2 recordings to be submitted.\n")
        assert again.out.startswith("q3 is running already")
        assert {message["task"] for message in desk.messages(queues.CONTROL)} == {"retroscribe.pump"}
        assert pump(desk.resources, by=BY) == 1
        assert sweep(desk.resources, by=BY) == 1
        (message,) = desk.messages(queues.SUBMIT)
        assert submit(desk.resources, ready.id, message["epoch"], by=BY)

    def test_a_pause_that_ends_while_a_task_looks_holds_nothing_back(self, desk: Desk, command: DeskCommand) -> None:
        ready = desk.validated(GOOD[0])
        command("pause", "q3")
        seen = desk.now(ready)
        command("resume", "q3")

        assert seen.backfill_state == "paused"
        with desk.resources.ledger.write() as tx:
            from workers.pipeline.postpone import hold_back  # noqa: PLC0415

            assert not hold_back(tx, seen, by=BY)
        assert desk.now(ready).due_at == ready.due_at

    def test_one_that_was_cancelled_is_refused_with_the_ways_to_go(self, desk: Desk, command: DeskCommand) -> None:
        desk.ask(["m-1"])
        command("cancel", "q3", "--yes")

        answer = command("resume", "q3")

        assert (answer.code, answer.out) == (USAGE, "")
        assert "`retroscribe retry q3 --state cancelled`" in answer.err
        assert "send its list again under another name" in answer.err

    def test_without_a_broker_it_runs_again_all_the_same(
        self, desk: Desk, environment: dict[str, str], tmp_path: Path
    ) -> None:
        desk.ask(["m-1"])
        steering.pause(desk.resources, "q3")

        nobody = {"RETROSCRIBE_REDIS_URL": f"unix://{tmp_path}/nobody"}
        answer = run_command("resume", "q3", folder=tmp_path, **environment | nobody)

        assert (answer.returncode, steering.look(desk.resources, "q3").state) == (OK, "running")
        assert answer.stderr.startswith(f"No broker listens at {tmp_path}/nobody")


class TestCancel:
    @pytest.mark.both_ledgers
    def test_what_is_not_paid_for_stops_and_the_rest_goes_on(self, desk: Desk, command: DeskCommand) -> None:
        each = everywhere(desk)

        answer = command("cancel", "q3", "--yes")

        stops = {State.PENDING, State.QUEUED, State.VALIDATED}
        assert answer.code == OK
        assert {state: desk.state(one) for state, one in each.items()} == {
            state: State.CANCELLED if state in stops else state for state in each
        }
        assert "q3 is cancelled: 4 recordings of it are stopped before anything was paid." in answer.out
        assert "1 POST is on its way and is recorded." in answer.out
        with desk.resources.ledger.read() as tx:
            (last,) = recordings.history(tx, each[State.PENDING].id)
        assert last["by"].startswith(f"retroscribe cancel ({getpass.getuser()}@")
        again = command("cancel", "q3", "--json")
        assert (again.json["changed"], again.json["states"]["cancelled"], again.json["handed_over"]) == (False, 4, 0)

    def test_messages_that_wait_do_nothing_then(self, desk: Desk, command: DeskCommand, sandbox: Sandbox) -> None:
        ready, out = desk.validated(GOOD[0]), desk.queued(GOOD[1])
        command("cancel", "q3", "--yes")

        assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
        assert not validate(desk.resources, out.id, out.epoch, by=BY)
        assert {desk.state(ready), desk.state(out)} == {State.CANCELLED}
        assert sandbox.stats()["submits"] == 0

    @pytest.mark.both_ledgers
    def test_nothing_is_submitted_from_its_beginning_on(
        self, desk: Desk, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steering, "BATCH", 1)
        ready, out = desk.validated(GOOD[0]), desk.queued(GOOD[1])
        next(steering.cancel(desk.resources, "q3", by=BY))

        assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
        assert not validate(desk.resources, out.id, out.epoch, by=BY)
        assert pump(desk.resources, by=BY) == 0

        assert (desk.state(ready), desk.state(out)) == (State.VALIDATED, State.QUEUED)
        assert sandbox.stats()["submits"] == 0

    @pytest.mark.both_ledgers
    def test_interrupted_half_way_the_same_command_finishes_it_without_asking(
        self, desk: Desk, command: DeskCommand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steering, "BATCH", 2)
        many = desk.ask([f"m-{number}" for number in range(5)])
        list(islice(steering.cancel(desk.resources, "q3", by=BY), 2))
        assert sum(desk.state(one) == State.CANCELLED for one in many) == 2

        answer = command("cancel", "q3")

        assert (answer.code, "5 recordings of it are stopped" in answer.out) == (OK, True)
        assert [desk.way(one) for one in many] == [[State.CANCELLED]] * 5

    @pytest.mark.both_ledgers
    def test_the_sweep_finishes_it_too_and_stops_what_comes_back_unpaid_later(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steering, "BATCH", 2)
        posting, *many = desk.ask([f"m-{number}" for number in range(5)])
        desk.set(posting, state=State.SUBMITTING, due_at=4e9)
        next(steering.cancel(desk.resources, "q3", by=BY))

        assert sweep(desk.resources, by=BY) == 4
        desk.set(posting, state=State.VALIDATED)
        assert sweep(desk.resources, by=BY) == 1

        assert {desk.state(one) for one in (posting, *many)} == {State.CANCELLED}
        assert sweep(desk.resources, by=BY) == 0

    def test_what_another_backfill_asked_for_too_goes_on_there_with_its_message(
        self, desk: Desk, command: DeskCommand, sandbox: Sandbox
    ) -> None:
        out = desk.queued(GOOD[0])
        desk.ask([GOOD[0]], backfill="q4")

        answer = command("cancel", "q3", "--yes")

        assert "1 recording became another backfill's that asked for it too." in answer.out
        assert validate(desk.resources, out.id, out.epoch, by=BY)
        assert submit(desk.resources, out.id, out.epoch, by=BY)
        assert (desk.now(out).backfill, desk.state(out)) == ("q4", State.TRANSCRIBING)
        found = status(desk.resources, "q3").counts
        assert (found.requested, found.total, found.duplicates) == (1, 0, 1)

    def test_an_unknown_outcome_is_not_repeated_by_the_policy_any_more(
        self, desk: Desk, command: DeskCommand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(desk.resources.settings, "unknown_policy", "resubmit")
        (one,) = desk.ask(["m-1"])
        sent(desk, one, submissions.UNKNOWN)
        desk.set(one, state=State.UNKNOWN, due_at=PAST)
        command("cancel", "q3", "--yes")

        sweep(desk.resources, by=BY)

        assert (desk.state(one), desk.now(one).reason) == (State.PARKED, Reason.OUTCOME_UNKNOWN)

    def test_without_a_terminal_and_without_yes_it_shows_what_would_stop_and_changes_nothing(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        everywhere(desk)

        answer = command("cancel", "q3")

        assert (answer.code, answer.out) == (USAGE, "")
        assert "q3 is running. What stops, unpaid: 1 pending, 1 queued, 1 validated." in answer.err
        assert answer.err.splitlines()[-1] == "retroscribe: 3 recordings of q3 would stop: add --yes to confirm that."
        assert steering.look(desk.resources, "q3").state == "running"

    @pytest.mark.parametrize(
        ("said", "code", "state"), [("y\n", OK, State.CANCELLED), ("n\n", INTERRUPTED, State.PENDING)]
    )
    def test_on_a_terminal_it_asks_first(
        self, desk: Desk, command: DeskCommand, monkeypatch: pytest.MonkeyPatch, said: str, code: int, state: State
    ) -> None:
        (one,) = desk.ask(["m-1"])
        person, terminal = pty.openpty()
        os.write(person, said.encode())
        with os.fdopen(terminal, closefd=True) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)

            answer = command("cancel", "q3")

        os.close(person)
        assert (answer.code, desk.state(one)) == (code, state)
        assert "Cancel q3 and stop 1 recording?" in answer.err


class TestAfterACancel:
    @pytest.mark.both_ledgers
    def test_retry_lets_it_run_again_with_what_is_retried_only(
        self, desk: Desk, command: DeskCommand, sandbox: Sandbox
    ) -> None:
        one, failed = desk.ask(GOOD[:2])
        desk.set(failed, state=State.FAILED, due_at=None)
        command("cancel", "q3", "--yes")

        answer = command("retry", "q3")

        assert (answer.code, desk.state(one), desk.state(failed)) == (OK, State.CANCELLED, State.PENDING)
        assert "q3 was cancelled and runs again; what else of it was cancelled stays so." in answer.out
        assert command("retry", "q3", "--state", "cancelled", "--json").json["reopened"] is False
        assert pump(desk.resources, by=BY) == 2
        assert validate(desk.resources, one.id, desk.now(one).epoch, by=BY)
        assert submit(desk.resources, one.id, desk.now(one).epoch, by=BY)

    def test_retry_is_refused_until_everything_has_stopped(self, desk: Desk, command: DeskCommand) -> None:
        _, failed = desk.ask(["m-1", "m-2"])
        desk.set(failed, state=State.FAILED, due_at=None)
        next(steering.cancel(desk.resources, "q3", by=BY))

        answer = command("retry", "q3")

        assert (answer.code, desk.state(failed)) == (USAGE, State.FAILED)
        assert "try again when `retroscribe cancel q3` has ended" in answer.err
        command("cancel", "q3")
        assert command("retry", "q3").code == OK

    def test_what_a_person_resubmits_lets_it_run_again_too(self, desk: Desk, command: DeskCommand) -> None:
        one, other = desk.ask(["m-1", "m-2"])
        desk.set(one, state=State.PARKED, reason=Reason.OUTCOME_UNKNOWN, due_at=None)
        command("cancel", "q3", "--yes")

        answer = command("resolve", "m-1", "--resubmit", "--json")

        assert (answer.code, answer.json["reopened"]) == (OK, True)
        assert (desk.state(one), desk.state(other)) == (State.VALIDATED, State.CANCELLED)
        assert sweep(desk.resources, by=BY) == 1

    def test_the_list_sent_again_under_its_name_is_refused_and_under_another_it_begins_anew(
        self, desk: Desk, command: DeskCommand, tmp_path: Path
    ) -> None:
        (tmp_path / "q3.csv").write_text("media_id\nm-1\nm-2\n")
        command("run", "q3.csv", "--no-follow")
        command("cancel", "q3", "--yes")

        refused, anew = command("run", "q3.csv", "--no-follow"), command("run", "q3.csv", "--name", "q4", "--no-follow")

        assert (refused.code, "Backfill 'q3' was cancelled and takes nothing in" in refused.err) == (USAGE, True)
        assert "q4: 2 new, 0 asked for before, 0 unusable" in anew.err


class TestFollowing:
    def test_a_paused_one_takes_a_list_in_and_says_that_it_waits(
        self, desk: Desk, command: DeskCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(run, "missing_consumers", lambda _: set())
        desk.ask(["m-0"])
        steering.pause(desk.resources, "q3")
        (tmp_path / "q3.csv").write_text("media_id\nm-1\n")

        answer = command("run", "q3.csv", "--no-follow")

        assert (answer.code, "q3: 1 new" in answer.err) == (OK, True)
        assert "q3 is paused: nothing of it is submitted until `retroscribe resume q3`." in answer.err

    def follow(self, desk: Desk, capsys: pytest.CaptureFixture[str], name: str = "q3") -> tuple[int, str]:
        code = run.follow(desk.resources, name)
        return code, capsys.readouterr().err

    def test_a_paused_one_ends_with_the_way_to_go_on(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        desk.ask(["m-1"])
        steering.pause(desk.resources, "q3")

        code, said = self.follow(desk, capsys)

        assert (code, "q3 is paused: nothing of it is submitted until `retroscribe resume q3`." in said) == (
            STUCK,
            True,
        )

    def test_a_paused_one_of_which_everything_is_done_ends_as_usual(
        self, desk: Desk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (one,) = desk.ask(["m-1"])
        desk.set(one, state=State.INDEXED, due_at=None)
        steering.pause(desk.resources, "q3")

        assert self.follow(desk, capsys) == (OK, "\n")

    def test_one_whose_duplicates_wait_in_a_paused_one_ends_too(
        self, desk: Desk, command: DeskCommand, capsys: pytest.CaptureFixture[str]
    ) -> None:
        desk.ask(["m-1"])
        desk.ask(["m-1"], backfill="q4")
        steering.pause(desk.resources, "q3")

        code, said = self.follow(desk, capsys, "q4")

        assert (code, "asked for before by another backfill, which is paused" in said) == (STUCK, True)
        assert "1 asked for before by a backfill that is paused" in command("status", "q4").out

    @pytest.mark.parametrize(("state", "code"), [(State.INDEXED, OK), (State.FAILED, SOME_FAILED)])
    def test_a_cancelled_one_ends_when_what_was_paid_for_has(
        self, desk: Desk, capsys: pytest.CaptureFixture[str], state: State, code: int
    ) -> None:
        one, _ = desk.ask(["m-1", "m-2"])
        desk.set(one, state=state, due_at=None)
        list(steering.cancel(desk.resources, "q3", by=BY))

        ended, said = self.follow(desk, capsys)

        assert (ended, "q3 was cancelled: what was paid for is at its end" in said) == (code, True)

    def test_one_recording_of_a_paused_backfill_is_not_waited_for(
        self, desk: Desk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (one,) = desk.ask(["m-1"])
        steering.pause(desk.resources, "q3")
        desk.ask(["m-2"], backfill="single")

        assert run._follow_one(desk.resources, one, "single") == STUCK
        assert "It belongs to q3, which is paused" in capsys.readouterr().err


@pytest.mark.both_ledgers
def test_everything_that_was_requested_stays_accounted_for(desk: Desk, command: DeskCommand) -> None:
    desk.ask([f"m-{number}" for number in range(6)])
    desk.ask([f"m-{number}" for number in range(3, 9)], backfill="q4")
    (out,) = desk.ask(["m-0"])
    desk.set(out, state=State.TRANSCRIBING)

    for steer in (["pause", "q3"], ["cancel", "q3", "--yes"], ["retry", "q3", "--state", "cancelled"]):
        assert command(*steer).code == OK
        for name in ("q3", "q4"):
            found = json.loads(command("status", name, "--json").out)
            assert found["requested"] == 6
            assert found["requested"] == sum(found["states"].values()) + found["duplicates"] + found["intake_rejects"]
