"""What a person decides: recordings that ended badly begin anew, and what nobody knows is settled."""

import getpass
import json
import os
import pty
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from config import queues
from tests.support.command import run_command
from tests.support.desk import BY, Desk, completed, failed, request
from tests.support.desk_command import DeskCommand
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from workers.ledger import backfills, recordings, submissions
from workers.ledger.tables import backfills as backfills_table
from workers.model import Lane, Reason, Recording, State
from workers.pipeline import operations
from workers.pipeline.events import receive
from workers.pipeline.index import index
from workers.pipeline.pump import pump
from workers.pipeline.status import status
from workers.pipeline.submit import submit
from workers.pipeline.validate import validate

OK, USAGE, ALL_LEFT_ALONE, INTERRUPTED = 0, 2, 3, 130
_REFS = count(1)


def sent(desk: Desk, recording: Recording, outcome: str, transcription_id: str | None = None) -> submissions.Submission:
    """Writes a submission with that outcome, as a worker would."""
    with desk.resources.ledger.write() as tx:
        one = submissions.open_next(
            tx, recording.id, callback_ref=f"{next(_REFS):032x}", epoch=recording.epoch, request_digest=bytes(32)
        )
        return submissions.settle(tx, one, outcome, transcription_id=transcription_id)


def ended(desk: Desk, media_id: str, state: State = State.FAILED, reason: Reason = Reason.REQUEST_REFUSED) -> Recording:
    """Came to a bad end unpaid."""
    (asked,) = desk.ask([media_id])
    return desk.set(asked, state=state, reason=reason, attempts=3, due_at=None)


def overdue(desk: Desk, media_id: str) -> Recording:
    """Accepted as t-MEDIA_ID, and parked because no end came."""
    (asked,) = desk.ask([media_id])
    sent(desk, asked, submissions.ACCEPTED, f"t-{media_id}")
    changes = {"transcription_id": f"t-{media_id}", "accepted_at": 1.0, "due_at": None, "polls": 9}
    return desk.set(asked, state=State.PARKED, reason=Reason.OVERDUE, **changes)


def doubtful(desk: Desk, media_id: str, state: State = State.PARKED) -> Recording:
    """Nobody knows whether it was accepted."""
    (asked,) = desk.ask([media_id])
    sent(desk, asked, submissions.UNKNOWN)
    return desk.set(asked, state=state, reason=Reason.OUTCOME_UNKNOWN, due_at=time.time() + 60)


def in_two_languages(desk: Desk, media_id: str) -> list[Recording]:
    """Two recordings of one media id."""
    (english,) = desk.ask([media_id])
    spanish = request(media_id, languages=("es-ES",))
    with desk.resources.ledger.write() as tx:
        target = backfills.ensure(tx, "q3", {})
        backfills.add(tx, target, Lane.BACKFILL, [backfills.Asked(900, spanish)], by=BY)
        found = recordings.by_fingerprint(tx, spanish.fingerprint())
    assert found is not None
    return [english, found]


def lost_answer(desk: Desk, sandbox: Sandbox, media_id: str = GOOD[0]) -> Recording:
    """Accepted by the sandbox, and neither the answer nor the webhook came."""
    ready = desk.validated(media_id)
    sandbox.faults(accept_then="cut", webhooks="lost")
    assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
    sandbox.faults(webhooks="lost")
    return desk.now(ready)


def wait_in_the_inbox(desk: Desk, recording: Recording, body: bytes | None = None) -> None:
    receive(desk.resources, desk.submissions(recording)[0].callback_ref, body or completed("t-late", "hello"))


def last_change(desk: Desk, recording: Recording) -> tuple[str, str, str, str]:
    """From, to, reason and by whom."""
    with desk.resources.ledger.read() as tx:
        row = recordings.history(tx, recording.id)[-1]
    return row["from_state"], row["to_state"], row["reason"], row["by"]


class TestRetry:
    @pytest.mark.both_ledgers
    def test_a_failed_recording_begins_anew_and_is_transcribed(
        self, desk: Desk, command: DeskCommand, sandbox: Sandbox
    ) -> None:
        ready = desk.validated(GOOD[0])
        sandbox.faults(submit_status=400)
        submit(desk.resources, ready.id, ready.epoch, by=BY)
        before = desk.set(ready, attempts=5, resends=4, polls=3)
        sandbox.faults()

        answer = command("retry", "q3")

        anew = desk.now(ready)
        assert (answer.code, answer.err) == (OK, "")
        assert "1 recording retried" in answer.out
        assert (anew.state, anew.reason, anew.detail) == (State.PENDING, Reason.RETRIED, None)
        assert (anew.attempts, anew.resends, anew.polls, anew.epoch) == (0, 0, 0, before.epoch + 1)
        assert last_change(desk, ready)[:3] == ("failed", "pending", "retried")
        assert last_change(desk, ready)[3].startswith(f"retroscribe retry ({getpass.getuser()}@")
        assert [message["task"] for message in desk.messages(queues.CONTROL)] == ["retroscribe.pump"]
        assert pump(desk.resources, by=BY) == 1
        assert validate(desk.resources, ready.id, desk.now(ready).epoch, by=BY)
        assert submit(desk.resources, ready.id, desk.now(ready).epoch, by=BY)

    def test_only_failed_ones_of_this_backfill_begin_anew_unless_told_otherwise(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        rejected = ended(desk, "m-1", State.REJECTED, Reason.CODEC_UNSUPPORTED)
        cancelled = ended(desk, "m-2", State.CANCELLED)
        failed_ = ended(desk, "m-3")
        (other,) = desk.ask(["m-4"], backfill="q4")
        desk.set(other, state=State.FAILED, due_at=None)

        assert command("retry", "q3", "--json").json["retried"] == 1
        assert [desk.state(one) for one in (rejected, cancelled, failed_, other)] == [
            State.REJECTED,
            State.CANCELLED,
            State.PENDING,
            State.FAILED,
        ]
        assert command("retry", "q3", "--state", "rejected", "--state", "cancelled", "--json").json["retried"] == 2

    def test_with_a_reason_only_those_begin_anew_that_have_it(self, desk: Desk, command: DeskCommand) -> None:
        refused = ended(desk, "m-1")
        exhausted = ended(desk, "m-2", reason=Reason.ATTEMPTS_EXHAUSTED)

        assert command("retry", "q3", "--reason", "attempts_exhausted", "--json").json["retried"] == 1

        assert [desk.state(one) for one in (refused, exhausted)] == [State.FAILED, State.PENDING]

    @pytest.mark.both_ledgers
    @pytest.mark.parametrize("outcome", [submissions.ACCEPTED, submissions.UNKNOWN, submissions.OPEN])
    def test_what_may_have_been_accepted_is_left_alone_unless_it_is_to_be_paid_again(
        self, desk: Desk, command: DeskCommand, outcome: str
    ) -> None:
        paid = ended(desk, "m-1")
        sent(desk, paid, outcome)

        first, again = command("retry", "q3"), command("retry", "q3", "--pay-again")

        assert first.code == ALL_LEFT_ALONE
        assert "1 recording left alone: the API accepted it, or may have" in first.out
        assert (again.code, desk.state(paid)) == (OK, State.PENDING)

    def test_one_whose_transcription_is_proved_failed_begins_anew_without_its_old_id(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        accepted = desk.submitted(GOOD[0])
        wait_in_the_inbox(desk, accepted, failed(str(accepted.transcription_id), "no speech"))
        index(desk.resources, accepted.id, by=BY)

        assert command("retry", "q3").code == OK

        assert (desk.state(accepted), desk.now(accepted).transcription_id) == (State.PENDING, None)

    def test_one_of_which_an_event_waits_is_left_alone_in_any_case(self, desk: Desk, command: DeskCommand) -> None:
        paid = ended(desk, "m-1")
        sent(desk, paid, submissions.UNKNOWN)
        wait_in_the_inbox(desk, paid)

        answer = command("retry", "q3", "--pay-again", "--json")

        assert (answer.code, answer.json["left_alone"]) == (ALL_LEFT_ALONE, {"event_waits": 1})
        index(desk.resources, paid.id, by=BY)
        assert desk.state(paid) == State.INDEXED

    @pytest.mark.both_ledgers
    def test_many_begin_anew_once_each_though_it_is_interrupted_and_repeated(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(operations, "BATCH", 2)
        many = desk.ask([f"m-{number}" for number in range(5)])
        for one in many:
            desk.set(one, state=State.FAILED, due_at=None)

        def tell() -> list[int]:
            steps = operations.retry(desk.resources, "q3", [State.FAILED], pay_again=False, by=BY)
            return [step.done.total() for step in steps]

        next(operations.retry(desk.resources, "q3", [State.FAILED], pay_again=False, by=BY))
        assert tell()[-1] == 3
        assert tell()[-1] == 0
        assert [desk.way(one) for one in many] == [[State.PENDING]] * 5

    def test_states_that_do_not_begin_anew_are_refused_with_the_way_to_go(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        refused = {
            State.INDEXED: "indexed recordings are not retried (1 of q3 now): their transcripts are here",
            State.TRANSCRIBING: "transcribing recordings are not retried (1 of q3 now): they are under way",
            State.PARKED: "a person decides about them with `retroscribe resolve q3`",
            State.UNKNOWN: "a person decides about them with `retroscribe resolve q3`",
        }
        for state, sentence in refused.items():
            one = desk.set(*desk.ask(["m-1"]), state=state)

            answer = command("retry", "q3", "--state", state)

            assert (answer.code, desk.now(one)) == (USAGE, one)
            assert sentence in answer.err

    def test_wrong_use_is_one_sentence(self, desk: Desk, command: DeskCommand) -> None:
        desk.ask(["m-1"])
        for arguments, sentence in (
            (["nope"], "There is no backfill 'nope'; there are: q3."),
            (["q3", "--reason", "bad_luck"], "'bad_luck' is no reason code"),
            (["q3", "--state", "lost"], "'lost' is not one of"),
        ):
            answer = command("retry", *arguments)

            assert (answer.code, sentence in answer.err) == (USAGE, True)

    def test_with_nothing_to_retry_it_says_so_and_that_is_fine(self, desk: Desk, command: DeskCommand) -> None:
        desk.ask(["m-1"])

        answer = command("retry", "q3", "--state", "rejected", "--reason", "dropped")

        assert answer.code == OK
        assert answer.out == "Nothing to do: q3 has no rejected recordings with the reason dropped.\n"

    def test_of_a_paused_backfill_they_wait_and_it_says_for_what(self, desk: Desk, command: DeskCommand) -> None:
        ended(desk, "m-1")
        with desk.resources.ledger.write() as tx:
            tx.execute(backfills_table.update().values(state="paused"))

        assert "until `retroscribe resume q3`" in command("retry", "q3").out

    def test_in_a_process_of_its_own_without_a_broker_they_begin_anew_all_the_same(
        self, desk: Desk, environment: dict[str, str], tmp_path: Path
    ) -> None:
        one = ended(desk, "m-1")

        nobody = {"RETROSCRIBE_REDIS_URL": f"unix://{tmp_path}/nobody"}
        answer = run_command("retry", "q3", folder=tmp_path, **environment | nobody)

        assert (answer.returncode, desk.state(one)) == (OK, State.PENDING)
        (line,) = answer.stderr.splitlines()
        assert line.startswith(f"No broker listens at {tmp_path}/nobody")
        assert line.endswith("The recordings are stored and go on by themselves then.")


class TestAdopt:
    @pytest.mark.both_ledgers
    @pytest.mark.parametrize("state", [State.UNKNOWN, State.PARKED])
    def test_an_id_makes_it_transcribing_and_due_for_a_look_up(
        self, desk: Desk, command: DeskCommand, state: State
    ) -> None:
        one = doubtful(desk, "m-1", state)

        answer = command("resolve", one.ref, "--adopt", "t-1")

        adopted = desk.now(one)
        (submission,) = desk.submissions(one)
        assert (answer.code, "1 recording adopted" in answer.out) == (OK, True)
        assert (adopted.state, adopted.transcription_id, adopted.due_at) == (State.TRANSCRIBING, "t-1", 0)
        assert adopted.epoch > one.epoch
        assert (submission.outcome, submission.transcription_id) == (submissions.ACCEPTED, "t-1")
        assert last_change(desk, one)[:3] == (state, "transcribing", "adopted")

    def test_the_id_of_an_overdue_one_is_looked_up_again_with_a_new_deadline(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        one = overdue(desk, "m-1")
        before = desk.submissions(one)

        assert command("resolve", "m-1", "--adopt", "t-m-1").code == OK

        adopted = desk.now(one)
        assert (adopted.state, adopted.transcription_id, adopted.polls) == (State.TRANSCRIBING, "t-m-1", 0)
        assert (adopted.accepted_at or 0) > (one.accepted_at or 0)
        assert desk.submissions(one) == before

    def test_another_id_of_an_overdue_one_is_adopted_and_counted_as_accepted_twice(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        one = overdue(desk, "m-1")

        assert command("resolve", "m-1", "--adopt", "t-other").code == OK

        assert (desk.state(one), desk.now(one).transcription_id) == (State.TRANSCRIBING, "t-other")
        assert status(desk.resources, "q3").counts.accepted_twice == 1

    def test_an_id_that_can_not_be_its_own_is_refused(self, desk: Desk, command: DeskCommand) -> None:
        one, other = doubtful(desk, "m-1"), overdue(desk, "m-2")
        (never,) = desk.ask(["m-3"])
        desk.set(never, state=State.PARKED)
        lost = sent(desk, one, submissions.ACCEPTED, "t-failed")
        with desk.resources.ledger.write() as tx:
            submissions.note_failed(tx, lost, "t-failed")
        before = desk.now(one)

        answers = [
            command("resolve", one.ref, "--adopt", "t-m-2"),
            command("resolve", one.ref, "--adopt", "t-failed"),
            command("resolve", one.ref, "--adopt", "t 1"),
            command("resolve", never.ref, "--adopt", "t-1"),
        ]

        assert [answer.code for answer in answers] == [USAGE] * 4
        assert f"Transcription t-m-2 belongs to recording {other.ref} (media id m-2)" in answers[0].err
        assert "Transcription t-failed failed" in answers[1].err
        assert "'t 1' is no transcription id" in answers[2].err
        assert "Nothing was ever submitted for m-3" in answers[3].err
        assert desk.now(one) == before


class TestResubmit:
    def test_an_unknown_one_is_sent_again_byte_for_byte_with_the_same_key(
        self, desk: Desk, command: DeskCommand, sandbox: Sandbox
    ) -> None:
        one = lost_answer(desk, sandbox)
        (before,) = desk.submissions(one)

        answer = command("resolve", GOOD[0], "--resubmit", "--json")

        repeated = desk.now(one)
        assert (answer.code, answer.json["done"]) == (OK, {"repeated": 1})
        assert (repeated.state, repeated.repeats, repeated.due_at) == (State.VALIDATED, before.id, 0)
        assert submit(desk.resources, one.id, repeated.epoch, by=BY)
        assert list(sandbox.stats()["idempotency_keys"].values()) == [2]
        assert desk.submissions(one)[0].request_digest == before.request_digest

    def test_an_accepted_one_is_submitted_anew_only_if_it_is_to_be_paid_again(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        accepted = desk.submitted(GOOD[0])
        desk.set(accepted, state=State.PARKED, reason=Reason.OVERDUE, due_at=None)

        refused = command("resolve", accepted.ref, "--resubmit")
        assert (refused.code, desk.state(accepted)) == (ALL_LEFT_ALONE, State.PARKED)
        assert "--pay-again" in refused.out

        assert command("resolve", accepted.ref, "--resubmit", "--pay-again").code == OK
        ready = desk.now(accepted)
        assert (ready.state, ready.transcription_id, ready.repeats) == (State.VALIDATED, None, None)
        assert submit(desk.resources, ready.id, ready.epoch, by=BY)
        first, second = desk.submissions(accepted)
        assert first.callback_ref != second.callback_ref
        assert desk.now(accepted).transcription_id == second.transcription_id

    def test_what_can_not_be_repeated_is_left_alone_unless_it_is_to_be_paid_again(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        one = doubtful(desk, "m-1")  # its digest is none that the settings make

        refused = command("resolve", one.ref, "--resubmit")
        assert (refused.code, desk.state(one)) == (ALL_LEFT_ALONE, State.PARKED)
        assert "RETROSCRIBE_WEBHOOK_SECRETS is not what it was" in refused.out

        paid = command("resolve", one.ref, "--resubmit", "--pay-again", "--json")
        assert (paid.json["done"], desk.state(one)) == ({"resubmitted": 1}, State.VALIDATED)
        assert desk.now(one).repeats is None

    def test_a_repetition_after_an_acceptance_takes_the_new_answer_as_its_own(
        self, desk: Desk, command: DeskCommand, sandbox: Sandbox
    ) -> None:
        unknown = lost_answer(desk, sandbox)
        desk.set(unknown, state=State.PARKED, reason=Reason.OVERDUE, transcription_id="t-of-an-earlier-one")
        sent(desk, unknown, submissions.ACCEPTED, "t-of-an-earlier-one")
        with desk.resources.ledger.write() as tx:  # the unknown one is the latest
            numbers = submissions.submissions.c
            tx.execute(submissions.submissions.update().where(numbers.number == 1).values(number=3))

        assert command("resolve", unknown.ref, "--resubmit", "--pay-again", "--json").json["done"] == {"repeated": 1}
        assert submit(desk.resources, unknown.id, desk.now(unknown).epoch, by=BY)

        after = desk.now(unknown)
        assert after.state == State.TRANSCRIBING
        assert after.transcription_id == desk.submissions(unknown)[-1].transcription_id


class TestDrop:
    @pytest.mark.both_ledgers
    @pytest.mark.parametrize("make", [doubtful, overdue])
    def test_a_dropped_one_is_failed_and_a_late_event_completes_it_all_the_same(
        self, desk: Desk, command: DeskCommand, audit_records: list[str], make: Callable[[Desk, str], Recording]
    ) -> None:
        one = make(desk, "m-1")

        assert command("resolve", one.ref, "--drop").code == OK

        assert (desk.state(one), desk.now(one).reason) == (State.FAILED, Reason.DROPPED)
        assert [json.loads(line)["reason"] for line in audit_records] == ["dropped"]
        wait_in_the_inbox(desk, one, completed("t-m-1", "hello"))
        index(desk.resources, one.id, by=BY)
        assert desk.state(one) == State.INDEXED

    def test_an_unknown_one_goes_over_parked_in_one_go(self, desk: Desk, command: DeskCommand) -> None:
        one = doubtful(desk, "m-1", State.UNKNOWN)

        assert command("resolve", one.ref, "--drop").code == OK

        assert desk.way(one) == [State.PARKED, State.FAILED]

    def test_it_is_not_retried_unless_it_is_to_be_paid_again(self, desk: Desk, command: DeskCommand) -> None:
        one = doubtful(desk, "m-1")
        command("resolve", one.ref, "--drop")

        assert command("retry", "q3").code == ALL_LEFT_ALONE
        assert command("retry", "q3", "--pay-again").code == OK
        assert desk.state(one) == State.PENDING


class TestResolve:
    @pytest.mark.parametrize("decision", [["--adopt", "t-late"], ["--resubmit", "--pay-again"], ["--drop"]])
    def test_no_decision_overtakes_an_event_that_waits(
        self, desk: Desk, command: DeskCommand, decision: list[str]
    ) -> None:
        one = doubtful(desk, "m-1")
        wait_in_the_inbox(desk, one)

        answer = command("resolve", one.ref, *decision)

        assert (answer.code, desk.state(one)) == (ALL_LEFT_ALONE, State.PARKED)
        assert "an event waits in the inbox and goes first" in answer.out
        index(desk.resources, one.id, by=BY)
        assert desk.state(one) == State.INDEXED

    def test_one_that_waits_for_no_decision_is_left_alone(self, desk: Desk, command: DeskCommand) -> None:
        (one,) = desk.ask(["m-1"])

        answer = command("resolve", "m-1", "--drop")

        assert (answer.code, desk.now(one)) == (ALL_LEFT_ALONE, one)
        assert "it does not wait for a decision" in answer.out

    @pytest.mark.both_ledgers
    def test_those_of_a_backfill_and_of_a_reason_are_decided_about_together(
        self, desk: Desk, command: DeskCommand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(operations, "TOGETHER", 2)
        mine = [doubtful(desk, f"m-{number}") for number in range(3)] + [doubtful(desk, "m-8", State.UNKNOWN)]
        late = overdue(desk, "m-9")

        answer = command("resolve", "q3", "--reason", "outcome_unknown", "--drop", "--yes", "--json")

        assert answer.json["done"] == {"dropped": 4}
        assert {desk.state(one) for one in mine} == {State.FAILED}
        assert desk.state(late) == State.PARKED
        again = command("resolve", "q3", "--reason", "outcome_unknown", "--drop", "--yes")
        assert (again.code, again.out.startswith("Nothing to do")) == (OK, True)

    def test_without_a_terminal_and_without_yes_many_are_shown_and_none_is_touched(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        many = [doubtful(desk, f"m-{number}") for number in range(5)]

        answer = command("resolve", "q3", "--drop")

        assert (answer.code, answer.out) == (USAGE, "")
        assert "5 parked, outcome_unknown" in answer.err
        assert f"m-0 (ref {many[0].ref})" in answer.err
        assert "and 2 more" in answer.err
        assert "add --yes" in answer.err.splitlines()[-1]
        assert {desk.state(one) for one in many} == {State.PARKED}

    @pytest.mark.parametrize(("said", "code", "state"), [("y\n", OK, State.FAILED), ("n\n", INTERRUPTED, State.PARKED)])
    def test_on_a_terminal_it_asks_first(
        self, desk: Desk, command: DeskCommand, monkeypatch: pytest.MonkeyPatch, said: str, code: int, state: State
    ) -> None:
        one = doubtful(desk, "m-1")
        person, terminal = pty.openpty()
        os.write(person, said.encode())
        with os.fdopen(terminal, closefd=True) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)

            answer = command("resolve", "q3", "--drop")

        os.close(person)
        assert (answer.code, desk.state(one)) == (code, state)
        assert "Decide about 1 recording?" in answer.err

    def test_of_several_recordings_of_a_media_id_the_undecided_one_is_meant(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        english, spanish = in_two_languages(desk, "m-1")
        desk.set(english, state=State.PARKED)

        assert command("resolve", "m-1", "--drop").code == OK

        assert [desk.state(one) for one in (english, spanish)] == [State.FAILED, State.PENDING]

    def test_of_several_undecided_ones_of_a_media_id_it_asks_for_a_ref(self, desk: Desk, command: DeskCommand) -> None:
        both = [desk.set(one, state=State.PARKED) for one in in_two_languages(desk, "m-1")]

        answer = command("resolve", "m-1", "--drop")

        assert answer.code == USAGE
        assert all(one.ref in answer.err for one in both)

    def test_wrong_use_is_one_sentence_and_changes_nothing(self, desk: Desk, command: DeskCommand) -> None:
        one = doubtful(desk, "m-1")
        for arguments, sentence in (
            (["q3"], "one of --adopt ID, --resubmit and --drop"),
            (["q3", "--drop", "--resubmit"], "one of --adopt ID, --resubmit and --drop"),
            (["q3", "--drop", "--pay-again"], "--pay-again goes with --resubmit only"),
            (["q3", "--adopt", "t-1"], "--adopt is about one recording"),
            (["m-1", "--drop", "--reason", "overdue"], "--reason goes with a backfill"),
            (["q3", "--drop", "--reason", "bad_luck"], "'bad_luck' is no reason code"),
            (["nope", "--drop"], "There is no backfill and no recording 'nope'"),
        ):
            answer = command("resolve", *arguments)

            assert (answer.code, sentence in answer.err) == (USAGE, True), answer
            assert desk.now(one) == one

    def test_the_history_has_room_for_whoever_it_was(
        self, desk: Desk, command: DeskCommand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = doubtful(desk, "m-1")
        monkeypatch.setattr(getpass, "getuser", lambda: "u" * 200)

        assert command("resolve", one.ref, "--drop").code == OK

        by = last_change(desk, one)[3]
        assert by == f"retroscribe resolve ({'u' * 200}"[:128]


@pytest.mark.both_ledgers
def test_everything_that_was_requested_stays_accounted_for(desk: Desk, command: DeskCommand) -> None:
    ended(desk, "m-1")
    ended(desk, "m-2", State.REJECTED, Reason.CODEC_UNSUPPORTED)
    doubtful(desk, "m-3")
    overdue(desk, "m-4")
    with desk.resources.ledger.write() as tx:
        q3 = backfills.by_name(tx, "q3")
        assert q3 is not None
        backfills.refuse(tx, q3, [backfills.Refused(99, "raw", "why")])

    def accounted() -> tuple[int, int]:
        found = command("status", "q3", "--json").json
        ends = ("indexed", "rejected", "failed", "parked", "cancelled")
        return found["requested"], sum(
            [*(found["states"][end] for end in ends), found["duplicates"], found["intake_rejects"], found["active"]]
        )

    before = accounted()
    for decision in (["retry", "q3"], ["resolve", "m-3", "--resubmit", "--pay-again"], ["resolve", "m-4", "--drop"]):
        assert command(*decision).code == OK
        assert accounted() == before
    assert before[0] == before[1]
