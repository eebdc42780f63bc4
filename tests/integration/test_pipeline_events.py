"""What events do: early, doubled, lost, of somebody else, without a result; and the look-ups in their place."""

import json
import socket
import time
from typing import Any

import pytest
import redis
import uvicorn
from sqlalchemy import select

from config import queues
from tests.conftest import MakeResources
from tests.support.desk import BY, Desk, completed, failed
from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from tests.support.scripted_server import ScriptedServer, reply
from workers.errors import InputError
from workers.ledger import recordings, submissions
from workers.ledger.tables import events as inbox
from workers.model import Reason, Recording, State
from workers.pipeline import acceptance
from workers.pipeline.acceptance import Acceptance
from workers.pipeline.events import Receipt, Verdict, look_soon, receive
from workers.pipeline.index import index
from workers.pipeline.poll import poll
from workers.pipeline.submit import submit
from workers.pipeline.sweep import sweep
from workers.pipeline.track import track
from workers.search.query import parse

pytestmark = pytest.mark.both_ledgers

TOKEN = reply(200, {"access_token": "a-token", "expires_in": 3600, "token_type": "bearer"})
MEDIA = reply(200, {"id": "m-1", "format": "ogg", "codec": "opus", "duration": 60})
PAST = 1.0


def deliver(desk: Desk, recording: Recording, body: bytes) -> Receipt:
    """As the receiver does with the token of the recording's latest submission."""
    return receive(desk.resources, desk.submissions(recording)[-1].callback_ref, body)


def late_202(desk: Desk, recording: Recording, transcription_id: str) -> None:
    """As a worker that slept records what its submission, the first, was answered."""
    fact = Acceptance(desk.submissions(recording)[0].callback_ref, transcription_id, http_status=202)
    with desk.resources.ledger.write() as tx:
        assert acceptance.record(tx, desk.resources, fact, by=BY)


def theirs(recording: Recording) -> str:
    assert recording.transcription_id is not None
    return recording.transcription_id


def kept(desk: Desk) -> list[tuple[str, str]]:
    """State and type of each event in the inbox."""
    with desk.resources.ledger.read() as tx:
        return [(row.state, row.type) for row in tx.execute(select(inbox).order_by(inbox.c.id))]


def found(desk: Desk, media_id: str) -> int:
    return int(desk.resources.index.search(parse("", media_id=media_id)).total)


def test_an_event_that_comes_before_the_202_is_applied_once_the_recording_is_accepted(
    desk: Desk, receiver: uvicorn.Server, sandbox: Sandbox, audit_records: list[str]
) -> None:
    ready = desk.validated(GOOD[0])
    sandbox.faults(webhooks="early")

    assert submit(desk.resources, ready.id, ready.epoch, by=BY)
    assert kept(desk) == [("new", "transcription.completed")]
    track(desk.resources, ready.id)
    for _message in eventually(lambda: desk.messages(queues.INDEX)):
        index(desk.resources, ready.id, by=BY)

    assert desk.state(ready) == State.INDEXED
    assert (found(desk, GOOD[0]), len(audit_records)) == (1, 1)


def test_an_event_that_is_even_applied_before_the_202_is_recorded_leaves_one_acceptance(
    make_resources: MakeResources, broker: redis.Redis, audit_records: list[str]
) -> None:
    desk: Desk

    def accept_late(connection: socket.socket) -> None:
        (submitting,) = desk.ask(["m-1"])
        deliver(desk, submitting, completed("t-1", "hello"))
        index(desk.resources, submitting.id, by=BY)
        connection.sendall(reply(202, {"transcriptionId": "t-1"}))

    with ScriptedServer(TOKEN, MEDIA, accept_late) as server:
        desk = Desk(make_resources(GENESYS_BASE_URL=server.url), broker)
        done = desk.submitted("m-1")

    assert (done.state, done.transcription_id) == (State.INDEXED, "t-1")
    assert desk.way(done).count("transcribing") == 1
    assert Reason.ACCEPTED_TWICE not in repr(audit_records)
    assert len(audit_records) == 1


def test_doubled_deliveries_are_one_event_one_document_and_one_audit_record(
    desk: Desk, receiver: uvicorn.Server, sandbox: Sandbox, audit_records: list[str]
) -> None:
    sandbox.faults(webhooks="doubled")
    accepted = desk.submitted(GOOD[0])

    eventually(lambda: sandbox.stats()["webhooks_delivered"] == 2, what="both deliveries")
    for _ in range(2):
        index(desk.resources, accepted.id, by=BY)

    assert kept(desk) == [("applied", "transcription.completed")]
    assert (found(desk, GOOD[0]), len(audit_records)) == (1, 1)


def test_the_same_event_again_is_a_duplicate_before_and_after_it_was_applied(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])
    body = completed(theirs(accepted), "hello")

    assert deliver(desk, accepted, body).verdict == Verdict.STORED
    assert deliver(desk, accepted, body).verdict == Verdict.DUPLICATE
    index(desk.resources, accepted.id, by=BY)
    assert deliver(desk, accepted, body).verdict == Verdict.DUPLICATE


def test_an_event_about_another_media_id_is_refused_and_nothing_of_it_is_kept(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])

    receipt = deliver(desk, accepted, completed(theirs(accepted), "hello", media_id=GOOD[1]))

    assert receipt.verdict == Verdict.MISMATCHED
    assert kept(desk) == []
    assert desk.now(accepted) == accepted


def test_an_event_with_the_transcription_id_of_another_recording_is_kept_as_refused(desk: Desk) -> None:
    accepted, other = desk.submitted(GOOD[0]), desk.submitted(GOOD[1])

    receipt = deliver(desk, accepted, completed(theirs(other), "hello"))
    index(desk.resources, accepted.id, by=BY)

    assert receipt.verdict == Verdict.REFUSED
    assert kept(desk) == [("refused", "transcription.completed")]
    assert desk.state(accepted) == State.TRANSCRIBING


def test_an_event_of_a_submission_that_this_ledger_does_not_have_is_kept_unmatched(desk: Desk) -> None:
    assert receive(desk.resources, "0" * 32, completed("t-1", "hello")).verdict == Verdict.UNMATCHED
    assert kept(desk) == [("unmatched", "transcription.completed")]


def test_an_event_of_an_unknown_type_is_not_kept(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])
    body = json.dumps({"eventType": "transcription.progress", "data": {"transcriptionId": theirs(accepted)}}).encode()

    assert deliver(desk, accepted, body).verdict == Verdict.IGNORED
    assert kept(desk) == []


def test_an_event_for_a_forgotten_recording_is_not_kept(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])
    desk.set(accepted, state=State.FORGOTTEN, due_at=None)

    assert deliver(desk, accepted, completed(theirs(accepted), "hello")).verdict == Verdict.IGNORED
    assert kept(desk) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"eventType": "transcription.completed"}', b"\xff"])
def test_a_body_that_is_no_event_is_refused_with_a_sentence(desk: Desk, body: bytes) -> None:
    with pytest.raises(InputError, match=r"^The event .*\.$"):
        receive(desk.resources, "0" * 32, body)


def test_a_failed_transcription_fails_the_recording_with_their_words(desk: Desk, audit_records: list[str]) -> None:
    accepted = desk.submitted(GOOD[0])

    deliver(desk, accepted, failed(theirs(accepted), "The audio is silent."))
    index(desk.resources, accepted.id, by=BY)

    ended = desk.now(accepted)
    assert (ended.state, ended.reason) == (State.FAILED, Reason.TRANSCRIPTION_FAILED)
    assert ended.detail == "The audio is silent."
    assert [json.loads(line)["status"] for line in audit_records] == ["failed"]


@pytest.mark.parametrize("together", [True, False])
def test_a_completed_event_wins_over_a_failed_one_before_or_after_it_was_applied(desk: Desk, together: bool) -> None:
    accepted = desk.submitted(GOOD[0])
    deliver(desk, accepted, failed(theirs(accepted), "The audio is silent."))
    if not together:
        index(desk.resources, accepted.id, by=BY)
    deliver(desk, accepted, completed(theirs(accepted), "hello"))

    index(desk.resources, accepted.id, by=BY)

    assert desk.state(accepted) == State.INDEXED
    assert sorted(state for state, _ in kept(desk)) == (["applied", "ignored"] if together else ["applied", "applied"])


def test_a_failed_event_of_an_earlier_submission_decides_nothing(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])

    deliver(desk, accepted, failed("t-earlier", "The audio is silent."))
    index(desk.resources, accepted.id, by=BY)

    assert desk.state(accepted) == State.TRANSCRIBING
    assert kept(desk) == [("ignored", "transcription.failed")]


def test_a_transcript_without_segments_is_indexed_as_empty_and_found_by_its_media_id(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])

    deliver(desk, accepted, completed(theirs(accepted)))
    index(desk.resources, accepted.id, by=BY)

    done = desk.now(accepted)
    assert (done.state, done.reason) == (State.INDEXED, Reason.EMPTY)
    assert found(desk, GOOD[0]) == 1


def test_a_completed_event_without_a_result_has_the_result_looked_up_at_once(desk: Desk, sandbox: Sandbox) -> None:
    sandbox.faults(webhooks="lost")
    accepted = desk.submitted(GOOD[0])

    deliver(desk, accepted, completed(theirs(accepted), result=None))
    index(desk.resources, accepted.id, by=BY)
    assert [message["recording_id"] for message in desk.messages(queues.POLL)] == [accepted.id]
    _poll_until_it_ended(desk, accepted)
    index(desk.resources, accepted.id, by=BY)

    assert desk.state(accepted) == State.INDEXED


@pytest.mark.parametrize("state", [State.PENDING, State.VALIDATED, State.CANCELLED, State.FAILED, State.PARKED])
def test_an_event_proves_acceptance_and_a_post_that_has_not_begun_loses(
    desk: Desk, sandbox: Sandbox, state: State
) -> None:
    accepted = desk.submitted(GOOD[0])
    before = desk.set(accepted, state=state, transcription_id=None)

    deliver(desk, before, completed(theirs(accepted), "hello"))
    index(desk.resources, before.id, by=BY)

    after = desk.now(before)
    assert (after.state, after.transcription_id) == (State.INDEXED, theirs(accepted))
    assert after.epoch > before.epoch
    with desk.resources.ledger.write() as tx:
        assert not recordings.amend(tx, before, attempts=1)
    assert not submit(desk.resources, before.id, before.epoch, by=BY)
    assert sandbox.stats()["submits"] == 1


def test_lost_webhooks_are_made_up_for_by_a_look_up(desk: Desk, sandbox: Sandbox) -> None:
    sandbox.faults(webhooks="lost")
    accepted = desk.submitted(GOOD[0])
    desk.set(accepted, due_at=PAST)

    sweep(desk.resources, by=BY)
    assert [message["recording_id"] for message in desk.messages(queues.POLL)] == [accepted.id]
    _poll_until_it_ended(desk, accepted)
    (message,) = desk.messages(queues.INDEX)
    index(desk.resources, message["recording_id"], by=BY)

    assert desk.state(accepted) == State.INDEXED
    assert found(desk, GOOD[0]) == 1
    assert kept(desk) == [("applied", "transcription.completed")]


def test_a_late_webhook_after_a_look_up_is_a_duplicate(desk: Desk, sandbox: Sandbox) -> None:
    sandbox.faults(webhooks="lost")
    accepted = desk.submitted(GOOD[0])
    _poll_until_it_ended(desk, accepted)

    assert deliver(desk, accepted, completed(theirs(accepted), "hello")).verdict == Verdict.DUPLICATE


def test_look_ups_of_an_unfinished_transcription_become_rarer(
    make_resources: MakeResources, broker: redis.Redis
) -> None:
    processing = reply(200, {"transcriptionId": "t-1", "status": "processing"})
    with ScriptedServer(TOKEN, MEDIA, reply(202, {"transcriptionId": "t-1"}), processing) as server:
        desk = Desk(make_resources(GENESYS_BASE_URL=server.url, RETROSCRIBE_POLL_AFTER_SECONDS="600"), broker)
        accepted = desk.submitted("m-1")

        distances = [round(_due_after_poll(desk, accepted), -1) for _ in range(4)]

    assert distances == [600, 1200, 2400, 3600]
    assert desk.state(accepted) == State.TRANSCRIBING


def test_a_transcription_past_its_deadline_is_parked_as_overdue_and_never_failed(desk: Desk, sandbox: Sandbox) -> None:
    sandbox.faults(status_route="missing", webhooks="lost")
    accepted = desk.submitted(GOOD[0])
    poll(desk.resources, accepted.id, by=BY)
    assert desk.state(accepted) == State.TRANSCRIBING
    desk.set(accepted, accepted_at=time.time() - 25 * 3600)

    poll(desk.resources, accepted.id, by=BY)

    assert (desk.state(accepted), desk.now(accepted).reason) == (State.PARKED, Reason.OVERDUE)


def test_an_event_still_completes_a_recording_that_was_parked_as_overdue(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])
    desk.set(accepted, state=State.PARKED, due_at=None)

    deliver(desk, accepted, completed(theirs(accepted), "hello"))
    index(desk.resources, accepted.id, by=BY)

    assert desk.state(accepted) == State.INDEXED


def test_a_late_202_is_recorded_and_one_with_another_id_is_shown_as_a_double_acceptance(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])

    late_202(desk, accepted, theirs(accepted))
    late_202(desk, accepted, "t-other")
    late_202(desk, accepted, "t-other")

    assert desk.now(accepted) == accepted
    with desk.resources.ledger.read() as tx:
        notes = [row["reason"] for row in recordings.history(tx, accepted.id) if row["reason"]]
        assert submissions.doubles_of(tx, accepted.id) == ["t-other"]
    assert notes == [Reason.ACCEPTED_TWICE]


def test_a_late_202_is_adopted_by_a_recording_that_was_to_be_submitted_again_which_then_is_not(
    desk: Desk, sandbox: Sandbox
) -> None:
    accepted = desk.submitted(GOOD[0])
    again = desk.set(accepted, state=State.VALIDATED, transcription_id=None)

    late_202(desk, accepted, theirs(accepted))

    adopted = desk.now(again)
    assert (adopted.state, adopted.transcription_id) == (State.TRANSCRIBING, theirs(accepted))
    assert adopted.epoch > again.epoch
    assert not submit(desk.resources, again.id, again.epoch, by=BY)
    assert sandbox.stats()["submits"] == 1


def test_a_delivery_that_was_too_large_has_the_result_looked_up_soon(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])

    look_soon(desk.resources, desk.submissions(accepted)[0].callback_ref)
    sweep(desk.resources, by=BY)

    assert [message["recording_id"] for message in desk.messages(queues.POLL)] == [accepted.id]


def _poll_until_it_ended(desk: Desk, recording: Recording) -> None:
    def ended() -> list[Any]:
        poll(desk.resources, recording.id, by=BY)
        return desk.messages(queues.INDEX)

    eventually(ended, what="the end of the transcription")


def _due_after_poll(desk: Desk, recording: Recording) -> float:
    poll(desk.resources, recording.id, by=BY)
    return (desk.now(recording).due_at or 0) - time.time()
