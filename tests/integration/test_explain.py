"""What a person reads who wants to know what became of a recording: its past, what happens next, and the inbox."""

import dataclasses
import time
from typing import Any

import pytest
import redis

from tests.conftest import MakeResources
from tests.support.desk import BY, Desk, completed, failed
from tests.support.desk_command import DeskCommand
from tests.support.sandbox_calls import GOOD
from workers.cli.outlook import Outlook, outlook
from workers.ledger import controls, recordings, submissions
from workers.ledger.tables import backfills as backfills_table
from workers.model import CallClass, Reason, Recording, State
from workers.pipeline.callbacks import mint
from workers.pipeline.events import receive
from workers.pipeline.explain import explain
from workers.pipeline.index import index

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
DAY = 86_400.0
TASK = "0f6f3a52-8f0b-4f1e-9a35-d1f6c4a1b2c3"
USAGE = 2
NONE = "https://api.elsewhere.example"  # an API that can't reach us


@pytest.fixture(autouse=True)
def in_greenwich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def next_of(desk: Desk, recording: Recording) -> Outlook:
    """What happens next, seen at NOW."""
    (one,) = explain(desk.resources, recording.ref)
    return outlook(dataclasses.replace(one, around=dataclasses.replace(one.around, now=NOW)))


def brought_to(
    desk: Desk, state: State, *, media_id: str = "m-1", outcome: str | None = None, **columns: Any
) -> Recording:
    """A recording with one submission of that outcome, due in nine minutes."""
    (asked,) = desk.ask([media_id])
    if outcome is not None:
        ref, theirs = f"{asked.id:032x}", f"t-of-{media_id}" if outcome == submissions.ACCEPTED else None
        with desk.resources.ledger.write() as tx:
            one = submissions.open_next(tx, asked.id, callback_ref=ref, epoch=1, request_digest=bytes(32))
            submissions.settle(tx, one, outcome, transcription_id=theirs)
    return desk.set(asked, state=state, **{"due_at": NOW + 540, **columns})


ACCEPTED = {"outcome": submissions.ACCEPTED, "transcription_id": "t-1", "accepted_at": NOW}
UNKNOWN = {"outcome": submissions.UNKNOWN, "reason": Reason.OUTCOME_UNKNOWN}


SOON = "08:09:00 UTC (in 9 min 0 s)"
ANEW = "Nothing, unless a person has it begin anew"
LOOKED_UP = "A worker looks its media up when its message comes up in the queue"
RESENT = "if that message is lost, the sweep sends one"
SENT = (
    "when its message comes up in the queue retroscribe.submit and the limit allows; if there is no such message, the"
)
ASKED = f"The sweep asks for its status (GET) at {SOON}, unless a webhook comes first;"
SENTENCES: list[tuple[State, dict[str, Any], str]] = [
    (State.PENDING, {"due_at": 0}, "The pump hands it out within seconds, as the queues have room, and a worker looks"),
    (State.PENDING, {}, f"The pump hands it out not before {SOON} and a worker looks its media up first."),
    (State.QUEUED, {}, f"{LOOKED_UP} retroscribe.validate; {RESENT} after {SOON}."),
    (State.QUEUED, {"lane": "live", "due_at": NOW}, f"{LOOKED_UP} retroscribe.live; {RESENT} within seconds."),
    (State.VALIDATED, {}, f"A worker submits it {SENT} sweep sends one after {SOON}."),
    (
        State.VALIDATED,
        {**UNKNOWN, "repeats": True},
        f"A worker repeats its submission 1 byte for byte {SENT} sweep sends",
    ),
    (
        State.SUBMITTING,
        {"outcome": submissions.OPEN},
        (
            "Its POST may be on its way, and the worker says what became of it; if it has not "
            f"by {SOON}, the sweep sets it to unknown, and nothing is sent again before that is settled."
        ),
    ),
    (
        State.UNKNOWN,
        UNKNOWN,
        (
            "A callback, or a late answer to its worker, proves it; without either, the sweep parks it "
            f"at {SOON} for a person to decide; nothing is sent again by itself."
        ),
    ),
    (State.PARKED, {**ACCEPTED, "reason": Reason.OVERDUE}, "A person decides: the API accepted it as t-1 and brought"),
    (State.PARKED, UNKNOWN, "A person decides: ask the API's support, with the times and callback refs above, whether"),
    (State.TRANSCRIBING, ACCEPTED, f"{ASKED} from 2027-01-16 08:00:00 UTC on an answer that brings no end parks it as"),
    (
        State.TRANSCRIBING,
        {**ACCEPTED, "accepted_at": NOW - DAY},
        f"{ASKED} its deadline was 08:00:00 UTC, so an answer",
    ),
    (
        State.COMPLETED,
        ACCEPTED,
        (
            "The index task makes its transcript searchable, which the ledger has; if that task's message is lost "
            f"or the search index is away, the sweep asks again at {SOON}."
        ),
    ),
    (State.INDEXED, ACCEPTED, "Nothing: it is done, and its transcript is searchable."),
    (State.REJECTED, {}, f"{ANEW}."),
    (State.FAILED, {}, f"{ANEW}."),
    (State.FAILED, UNKNOWN, f"{ANEW}, or an event that comes late completes it."),
    (State.CANCELLED, {}, f"{ANEW} or another backfill asks for it."),
    (State.FORGOTTEN, {}, "Nothing: its text was removed on request, and it is not transcribed again."),
]


class TestWhatHappensNext:
    def test_each_state_has_its_sentence(self, desk: Desk) -> None:
        assert {state for state, _, _ in SENTENCES} == set(State)
        for number, (state, columns, sentence) in enumerate(SENTENCES):
            one = brought_to(desk, state, media_id=f"m-{number}", **columns)
            if columns.get("repeats"):
                desk.set(one, repeats=desk.submissions(one)[0].id)

            told = next_of(desk, one)

            assert told.sentence.startswith(sentence)
            assert (told.sentence[-1], told.obstacles) == (".", ())

    def test_a_pending_one_knows_how_many_go_before_it(self, desk: Desk) -> None:
        *_, last = desk.ask(["m-1", "m-2", "m-3"])

        assert "hands it out after 2 recordings of q3 before it" in next_of(desk, last).sentence

    def test_the_policy_resubmit_is_told_until_it_has_been_used(
        self, make_resources: MakeResources, broker: redis.Redis
    ) -> None:
        desk = Desk(make_resources(RETROSCRIBE_UNKNOWN_POLICY="resubmit"), broker)
        unknown = brought_to(desk, State.UNKNOWN, **UNKNOWN)

        assert "the sweep repeats submission 1 once, byte for byte, at 08:09:00 UTC" in next_of(desk, unknown).sentence
        with desk.resources.ledger.write() as tx:
            submissions.reopen(tx, submissions.of_recording(tx, unknown.id)[0], epoch=2)
        assert "the sweep parks it at 08:09:00 UTC" in next_of(desk, unknown).sentence

    def test_an_event_that_waits_goes_before_everything_else(self, desk: Desk) -> None:
        parked = brought_to(desk, State.PARKED, **UNKNOWN)
        receive(desk.resources, desk.submissions(parked)[0].callback_ref, completed("t-1", "hello"))

        told = next_of(desk, parked)

        assert told.sentence.startswith("An event waits in the inbox and goes first")
        assert told.choices == ()

    @pytest.mark.parametrize(
        ("works", "sentence"),
        [
            (None, "The sweep asks for its status (GET) at 08:09:00 UTC (in 9 min 0 s); from 2027-01-16"),
            (False, "The API has no status route, so nothing ends it, for the API can't reach us either; without"),
        ],
    )
    def test_without_webhooks_nobody_promises_one(
        self, make_resources: MakeResources, broker: redis.Redis, *, works: bool | None, sentence: str
    ) -> None:
        desk = Desk(make_resources(GENESYS_BASE_URL=NONE), broker)
        accepted = brought_to(desk, State.TRANSCRIBING, **ACCEPTED)
        _know_status_route(desk, works)

        assert next_of(desk, accepted).sentence.startswith(sentence)


class TestObstacles:
    @pytest.mark.parametrize("state", [State.PENDING, State.QUEUED, State.VALIDATED])
    def test_a_paused_backfill_is_named_with_the_way_to_resume_it(self, desk: Desk, state: State) -> None:
        one = brought_to(desk, state)
        _pause(desk)

        told = next_of(desk, one)

        assert told.obstacles == (
            "Backfill q3 is paused, so nothing of it is submitted until `retroscribe resume q3`.",
        )
        assert told.sentence.startswith("Once that is over, ")

    @pytest.mark.parametrize("state", [State.PENDING, State.QUEUED, State.VALIDATED])
    def test_one_that_has_not_stopped_yet_after_a_cancel_does_so_soon(self, desk: Desk, state: State) -> None:
        one = brought_to(desk, state)
        with desk.resources.ledger.write() as tx:
            tx.execute(backfills_table.update().values(state="cancelled"))

        told = next_of(desk, one)

        assert told.sentence.startswith("It stops unpaid within seconds, for q3 was cancelled")
        assert (told.obstacles, told.choices) == ((), ())

    @pytest.mark.parametrize(
        ("state", "call_class", "halted"),
        [
            (State.PENDING, CallClass.SUBMIT, True),
            (State.QUEUED, CallClass.SUBMIT, True),
            (State.VALIDATED, CallClass.SUBMIT, True),
            (State.TRANSCRIBING, CallClass.SUBMIT, False),
            (State.TRANSCRIBING, CallClass.TOKEN, True),
            (State.UNKNOWN, CallClass.SUBMIT, False),
        ],
    )
    def test_a_halt_stands_in_the_way_of_what_has_to_call(
        self, desk: Desk, state: State, call_class: CallClass, *, halted: bool
    ) -> None:
        one = brought_to(desk, state, accepted_at=NOW)
        halt = controls.Halt("ScopeMissing", "Grant the scope.", call_class, NOW - 60, NOW)
        with desk.resources.ledger.write() as tx:
            controls.set_halt(tx, desk.resources.client_key, halt)

        expected = "The API client is halted since 07:59:00 UTC, and a recording each minute finds out whether it still"
        assert [why.startswith(expected) for why in next_of(desk, one).obstacles] == [True] * halted

    def test_a_closed_gate_stands_in_the_way_of_its_calls_only(self, desk: Desk) -> None:
        ready = brought_to(desk, State.VALIDATED)
        desk.resources.limiter.close_gate(CallClass.SUBMIT, 300, "429")

        (why,) = next_of(desk, ready).obstacles

        assert why.startswith("submit calls wait ")
        assert why.endswith("(429).")
        assert next_of(desk, desk.set(ready, state=State.QUEUED)).obstacles == ()

    def test_redis_away_is_said(self, make_resources: MakeResources, broker: redis.Redis) -> None:
        desk = Desk(make_resources(RETROSCRIBE_REDIS_URL="redis://127.0.0.1:1/0"), broker)

        (why,) = next_of(desk, brought_to(desk, State.PENDING)).obstacles

        assert why.startswith("Redis does not answer")

    @pytest.mark.parametrize(
        ("works", "why"),
        [
            (None, "Results can only be looked up"),
            (False, "Nothing is submitted: the API can't reach us"),
            (True, None),
        ],
    )
    def test_how_results_come_back_is_settled_before_anything_is_submitted(
        self, make_resources: MakeResources, broker: redis.Redis, *, works: bool | None, why: str | None
    ) -> None:
        desk = Desk(make_resources(GENESYS_BASE_URL=NONE), broker)
        one = brought_to(desk, State.PENDING)
        _know_status_route(desk, works)

        assert [found.startswith(str(why)) for found in next_of(desk, one).obstacles] == [True] * (why is not None)

    def test_without_workers_it_says_that_nobody_works(self, desk: Desk, command: DeskCommand) -> None:
        desk.ask(["m-1"])

        told = command("explain", "m-1", "--json").json["recordings"][0]["next"]

        (why,) = told["obstacles"]
        assert why.startswith("No worker takes from retroscribe.control, retroscribe.validate: start `retroscribe up`")
        assert told["sentence"].startswith("Once that is over, the pump hands it out")


class TestChoices:
    @pytest.mark.parametrize(
        ("state", "columns", "choices"),
        [
            (State.UNKNOWN, UNKNOWN, ["--adopt ID", "--resubmit", "--drop"]),
            (State.PARKED, UNKNOWN, ["--adopt ID", "--resubmit", "--drop"]),
            (
                State.PARKED,
                {**ACCEPTED, "reason": Reason.OVERDUE},
                ["--adopt t-1", "--resubmit --pay-again", "--drop"],
            ),
        ],
    )
    def test_what_is_undecided_has_the_commands_that_settle_it(
        self, desk: Desk, state: State, columns: dict[str, Any], choices: list[str]
    ) -> None:
        one = brought_to(desk, state, **columns)

        commands = [choice.command for choice in next_of(desk, one).choices]

        assert commands == [f"retroscribe resolve {one.ref} {choice}" for choice in choices]

    @pytest.mark.parametrize(
        ("state", "columns", "shown"),
        [
            (State.FAILED, {"reason": Reason.REQUEST_REFUSED}, "retroscribe retry q3 --reason request_refused"),
            (State.FAILED, UNKNOWN, "retroscribe retry q3 --reason outcome_unknown --pay-again"),
            (
                State.REJECTED,
                {"reason": Reason.CODEC_MISSING},
                "retroscribe retry q3 --state rejected --reason codec_missing",
            ),
            (State.CANCELLED, {}, "retroscribe retry q3 --state cancelled"),
        ],
    )
    def test_what_ended_badly_has_a_command_that_has_it_begin_anew(
        self, desk: Desk, command: DeskCommand, state: State, columns: dict[str, Any], shown: str
    ) -> None:
        one = brought_to(desk, state, **{"due_at": None, **columns})
        (choice,) = next_of(desk, one).choices
        assert choice.command == shown

        assert command(*shown.split()[1:]).code == 0

        assert desk.state(one) == State.PENDING


class TestPast:
    @pytest.mark.both_ledgers
    def test_all_that_happened_is_told_in_order_and_who_did_it(self, desk: Desk, command: DeskCommand) -> None:
        accepted = desk.submitted(GOOD[0])
        ref = desk.submissions(accepted)[0].callback_ref
        receive(desk.resources, ref, completed(str(accepted.transcription_id), "hello"))
        index(desk.resources, accepted.id, by=TASK)

        answer = command("explain", GOOD[0])

        told = [
            "asked for, in lane backfill",
            "pending -> queued  by a test",
            "validated -> submitting",
            f"callback ref {ref}",
            "event transcription.completed: applied",
            f"transcribing -> completed  by index task {TASK}",
            f"completed -> indexed  by index task {TASK}",
            "What happens next",
            "Nothing: it is done",
        ]
        places = [answer.out.find(text) for text in told]
        assert -1 not in places, told[places.index(-1)]
        assert places == sorted(places)
        assert "submission 1 was accepted" in answer.out
        assert f"HTTP 202, transcription {accepted.transcription_id}, correlation id" in answer.out
        assert f"{accepted.codec} in {accepted.format}" in answer.out

    def test_repeats_failures_refused_events_and_double_acceptances_are_told(
        self, desk: Desk, command: DeskCommand
    ) -> None:
        one, other = desk.submitted(GOOD[0]), desk.submitted(GOOD[1])
        (submission,) = desk.submissions(one)
        receive(desk.resources, submission.callback_ref, completed(str(other.transcription_id), "hello"))
        with desk.resources.ledger.write() as tx:
            submissions.note_double(tx, submission, "t-other")
            submissions.reopen(tx, submission, epoch=9)
            settled = submissions.settle(tx, submission.id, submissions.ACCEPTED)
            submissions.note_failed(tx, settled, str(one.transcription_id))
        desk.set(one, state=State.FAILED)

        said = command("explain", one.ref).out

        assert "also as t-other: paid for more than once" in said
        assert "event transcription.completed: refused" in said
        assert "its transcription id belongs to another recording" in said
        assert "submission 1 sent again, 2 times in all" in said
        assert f"the API says that transcription {one.transcription_id} failed" in said

    def test_whoever_did_it_is_named_in_words(self, desk: Desk, command: DeskCommand) -> None:
        queued = desk.queued("m-1")
        doers = {
            f"by pump task {TASK}": (f"pump:{TASK}", Reason.HALTED),
            f"by sweep task {TASK}": (f"sweep:{TASK}", Reason.RESENT),
            f"by webhook, applied by task {TASK}": (TASK, Reason.WEBHOOK),
            f"by validate task {TASK}": (TASK, Reason.GIVEN_BACK),
            "by retroscribe retry (eve@desk)": ("retroscribe retry (eve@desk)", Reason.RETRIED),
        }
        with desk.resources.ledger.write() as tx:
            for by, reason in doers.values():
                recordings.note(tx, queued, by=by, reason=reason)
        desk.set(queued, state=State.FAILED)

        said = command("explain", "m-1").out

        assert [who for who in doers if who not in said] == []

    def test_the_json_form_has_it_all_and_neither_token_nor_text(self, desk: Desk, command: DeskCommand) -> None:
        accepted = desk.submitted(GOOD[0])
        (submission,) = desk.submissions(accepted)
        receive(desk.resources, submission.callback_ref, completed(str(accepted.transcription_id), "a secret word"))
        index(desk.resources, accepted.id, by=TASK)

        as_json, as_text = command("explain", accepted.ref, "--json"), command("explain", accepted.ref)

        (one,) = as_json.json["recordings"]
        assert set(one) == {
            *(
                "media_id",
                "ref",
                "backfill",
                "backfill_state",
                "backfill_paused_detail",
                "lane",
                "request",
                "state",
                "reason",
                "detail",
            ),
            *("transcription_id", "accepted_twice", "codec", "format", "duration_seconds", "created_at", "history"),
            *("submissions", "events", "next", "backfill_paused_detail"),
        }
        assert [step["to"] for step in one["history"]] == desk.way(accepted)
        assert [sent["callback_ref"] for sent in one["submissions"]] == [submission.callback_ref]
        assert [event["state"] for event in one["events"]] == ["applied"]
        assert set(one["next"]) == {"sentence", "at", "obstacles", "commands"}
        mac = mint(submission.callback_ref, desk.resources.settings.signing_secrets).partition(".")[2]
        for said in (as_json.out, as_text.out):
            assert mac not in said
            assert "secret word" not in said

    def test_every_recording_of_a_media_id_is_shown(self, desk: Desk, command: DeskCommand) -> None:
        first, second = (desk.set(one, state=State.FAILED, media_id="m-1") for one in desk.ask(["m-1", "m-2"]))

        refs = [one["ref"] for one in command("explain", "m-1", "--json").json["recordings"]]

        assert refs == [second.ref, first.ref]
        assert command("explain", "m-1").out.count("What happens next") == 2

    def test_an_id_that_the_ledger_does_not_have_is_one_sentence(self, command: DeskCommand) -> None:
        answer = command("explain", "nope")

        assert (answer.code, answer.out) == (USAGE, "")
        assert "There is no recording with the media id or ref 'nope'" in answer.err


class TestEvents:
    @pytest.fixture
    def inbox(self, desk: Desk) -> tuple[Recording, Recording]:
        """An applied event, then one that waits, then an unmatched one."""
        done, waiting = desk.submitted(GOOD[0]), desk.submitted(GOOD[1])
        for one, text in ((done, "a secret word"), (waiting, "another secret word")):
            body = completed(str(one.transcription_id), text)
            receive(desk.resources, desk.submissions(one)[0].callback_ref, body)
            if one is done:  # before there is another: the index task would take that along
                index(desk.resources, done.id, by=BY)
        receive(desk.resources, "0" * 32, failed("t-stranger", "no"))
        return done, waiting

    @pytest.mark.both_ledgers
    @pytest.mark.usefixtures("inbox")
    def test_they_are_listed_newest_first_without_what_was_said(self, command: DeskCommand) -> None:
        as_json, as_text = command("events", "--json"), command("events")

        assert [event["state"] for event in as_json.json] == ["unmatched", "new", "applied"]
        assert set(as_json.json[0]) == {
            *("id", "received_at", "type", "state", "media_id", "ref", "transcription_id", "has_result", "detail"),
        }
        assert [as_text.out.find(state) > 0 for state in ("unmatched", "new", "applied")] == [True] * 3
        assert "secret" not in as_json.out + as_text.out

    def test_state_recording_and_number_narrow_the_list(
        self, command: DeskCommand, inbox: tuple[Recording, Recording]
    ) -> None:
        done, waiting = inbox

        def ids(*arguments: str) -> list[str]:
            return [event["transcription_id"] for event in command("events", *arguments, "--json").json]

        assert ids("--state", "unmatched") == ["t-stranger"]
        assert ids("--state", "new") == [waiting.transcription_id]
        assert ids(done.media_id) == [done.transcription_id]
        assert ids(waiting.ref, "--state", "applied") == []
        assert ids("--limit", "1") == ["t-stranger"]

    @pytest.mark.parametrize(
        ("arguments", "sentence"), [(["nope"], "no recording with"), (["--state", "lost"], "'lost' is not one of")]
    )
    def test_wrong_use_is_one_sentence(self, command: DeskCommand, arguments: list[str], sentence: str) -> None:
        answer = command("events", *arguments)

        assert (answer.code, sentence in answer.err) == (USAGE, True)


class TestStatus:
    @pytest.mark.both_ledgers
    def test_what_waits_for_a_person_is_shown_with_its_command(self, desk: Desk, command: DeskCommand) -> None:
        parked = brought_to(desk, State.PARKED, **UNKNOWN)
        with desk.resources.ledger.write() as tx:
            submissions.note_double(tx, submissions.of_recording(tx, parked.id)[0], "t-other")
        unknown, settled = desk.ask(["m-2", "m-3"])
        desk.set(unknown, state=State.UNKNOWN, due_at=time.time() + 3600)
        desk.set(settled, due_at=1.0)
        receive(desk.resources, "0" * 32, failed("t-stranger", "no"))
        desk.ask(["m-9"], backfill="q4")

        text, found = command("status", "q3").out, command("status", "q3", "--json").json

        assert "`retroscribe resolve q3 --reason outcome_unknown --resubmit`" in text
        assert "1 unknown: without proof, the policy decides about the first of them in " in text
        assert "1 recording accepted twice" in text
        assert "1 event kept as unmatched: `retroscribe events --state unmatched`" in text
        assert (found["accepted_twice"], found["events_aside"]) == (1, {"refused": 0, "unmatched": 1})
        assert found["unknown_decided_at"].endswith("+00:00")
        assert found["way_back"] == "webhooks"
        other = command("status", "q4", "--json").json
        assert (other["accepted_twice"], other["unknown_decided_at"]) == (0, None)

    @pytest.mark.parametrize(
        ("works", "way", "sentence"),
        [
            (None, "unproved", "one recording goes first to see whether its status can be looked up"),
            (False, "none", "Nothing is submitted: the API can't reach us"),
            (True, "polling", None),
        ],
    )
    def test_how_results_come_back_is_said_when_it_is_a_problem(
        self,
        make_resources: MakeResources,
        broker: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        *,
        works: bool | None,
        way: str,
        sentence: str | None,
    ) -> None:
        desk = Desk(make_resources(GENESYS_BASE_URL=NONE), broker)
        command = DeskCommand(desk, monkeypatch, capsys)
        desk.ask(["m-1"])
        _know_status_route(desk, works)

        text = command("status", "q3").out

        assert command("status", "q3", "--json").json["way_back"] == way
        assert (sentence in text) if sentence else ("PUBLIC_URL" not in text)


def _pause(desk: Desk) -> None:
    with desk.resources.ledger.write() as tx:
        tx.execute(backfills_table.update().values(state="paused"))


def _know_status_route(desk: Desk, works: bool | None) -> None:
    if works is not None:
        with desk.resources.ledger.write() as tx:
            controls.set_status_route(tx, desk.resources.client_key, works=works, why="a test")
