"""`retroscribe events replay`: an event that was put aside is applied once what stood in its way is gone."""

import uuid

import pytest

from config import queues
from tests.support.desk import BY, Desk, completed, failed
from tests.support.desk_command import DeskCommand
from tests.support.sandbox_calls import GOOD
from workers.ledger import submissions
from workers.ledger.tables import submissions as table
from workers.model import Recording, State
from workers.pipeline.events import receive
from workers.pipeline.index import index


def only_event(command: DeskCommand) -> int:
    (event,) = command("events", "--json").json
    return int(event["id"])


def forget_submission(desk: Desk, recording: Recording, ref: str) -> str:
    """As a ledger restored from a backup does; gives the ref that it had."""
    (submission,) = desk.submissions(recording)
    with desk.resources.ledger.write() as tx:
        tx.execute(table.update().where(table.c.id == submission.id).values(callback_ref=ref))
    return submission.callback_ref


def test_an_unmatched_event_is_applied_once_its_submission_is_there(desk: Desk, command: DeskCommand) -> None:
    accepted = desk.submitted(GOOD[0])
    ref = forget_submission(desk, accepted, uuid.uuid4().hex)
    receive(desk.resources, ref, completed(str(accepted.transcription_id), "hello"))
    event = only_event(command)

    early = command("events", "replay", str(event))
    forget_submission(desk, accepted, ref)
    late = command("events", "replay", str(event), "--json")

    assert early.code == 2
    assert f"Event {event} still belongs to no submission of this ledger" in early.err
    assert [(one["id"], one["state"], one["media_id"]) for one in late.json] == [(event, "applied", GOOD[0])]
    assert desk.state(accepted) == State.COMPLETED
    assert [message["recording_id"] for message in desk.messages(queues.INDEX)] == [accepted.id]
    assert desk.way(accepted)[-1] == "completed"


def test_a_refused_event_is_refused_again_until_its_id_is_nobody_elses(desk: Desk, command: DeskCommand) -> None:
    accepted, other = desk.submitted(GOOD[0]), desk.submitted(GOOD[1])
    (theirs,) = desk.submissions(other)
    receive(desk.resources, desk.submissions(accepted)[0].callback_ref, completed(str(other.transcription_id), "hello"))
    event = only_event(command)

    (first,) = command("events", "replay", str(event), "--json").json
    with desk.resources.ledger.write() as tx:
        tx.execute(table.update().where(table.c.id == theirs.id).values(transcription_id=None))
    assert theirs.outcome != submissions.OPEN
    (second,) = command("events", "replay", str(event), "--json").json

    assert (first["state"], first["detail"]) == ("refused", "its transcription id belongs to another recording")
    assert second["state"] == "applied"
    assert desk.state(accepted) == State.COMPLETED


def test_an_event_that_was_applied_stays_as_it_is(desk: Desk, command: DeskCommand) -> None:
    accepted = desk.submitted(GOOD[0])
    receive(desk.resources, desk.submissions(accepted)[0].callback_ref, completed(str(accepted.transcription_id), "hi"))
    index(desk.resources, accepted.id, by=BY)
    way = desk.way(accepted)

    answer = command("events", "replay", str(only_event(command)))

    assert (answer.code, "applied" in answer.out) == (0, True)
    assert desk.way(accepted) == way


def test_a_failure_that_is_replayed_leaves_its_audit_record(
    desk: Desk, command: DeskCommand, audit_records: list[str]
) -> None:
    accepted = desk.submitted(GOOD[0])
    ref = forget_submission(desk, accepted, uuid.uuid4().hex)
    receive(desk.resources, ref, failed(str(accepted.transcription_id), "no speech"))
    forget_submission(desk, accepted, ref)

    command("events", "replay", str(only_event(command)))

    assert desk.state(accepted) == State.FAILED
    assert len(audit_records) == 1


@pytest.mark.parametrize("arguments", [["replay"], ["m-1", "7"], ["replay", "x"], ["replay", "7"]])
def test_what_can_not_be_replayed_is_said_in_a_sentence(command: DeskCommand, arguments: list[str]) -> None:
    answer = command("events", *arguments)

    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "retroscribe events" in answer.err


def test_what_an_event_said_is_gone_when_its_recording_was_forgotten(desk: Desk, command: DeskCommand) -> None:
    accepted, other = desk.submitted(GOOD[0]), desk.submitted(GOOD[1])
    # Delivered to another's callback, it is put aside there.
    ref = desk.submissions(accepted)[0].callback_ref
    receive(desk.resources, ref, completed(str(other.transcription_id), "hello"))
    event = only_event(command)
    command("forget", other.ref, "--yes", "--no-rewrite")

    answer = command("events", "replay", str(event))

    assert (answer.code, answer.out) == (2, "")
    assert f"Event {event} is not applied: what it said was removed" in answer.err
    assert desk.state(accepted) == State.TRANSCRIBING
