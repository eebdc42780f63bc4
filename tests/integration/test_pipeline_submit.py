"""Submitting exactly once: the intent before the socket, every kind of answer, and never a second POST."""

import json
import socket
import time
from contextlib import suppress

import pytest
import redis
from structlog.testing import capture_logs

from config import queues
from tests.conftest import MakeResources
from tests.support.desk import BY, Desk, completed
from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from tests.support.scripted_server import Reply, ScriptedServer, reply
from workers.errors import ApiUnreachable, RateLimited
from workers.ledger import controls, submissions
from workers.ledger.engine import Ledger
from workers.ledger.tables import recordings as table
from workers.ledger.tables import submissions as sent
from workers.model import CallClass, Reason, State
from workers.pipeline.callbacks import verify
from workers.pipeline.events import receive
from workers.pipeline.index import index
from workers.pipeline.pump import pump
from workers.pipeline.submit import submit
from workers.pipeline.sweep import sweep
from workers.pipeline.validate import validate

pytestmark = pytest.mark.both_ledgers

TOKEN = reply(200, {"access_token": "a-token", "expires_in": 3600, "token_type": "bearer"})
MEDIA = reply(200, {"id": "m-1", "format": "ogg", "codec": "opus", "duration": 60})


def scripted(make_resources: MakeResources, broker: redis.Redis, server: ScriptedServer, **changes: str) -> Desk:
    """A desk whose API is the scripted server."""
    return Desk(make_resources(GENESYS_BASE_URL=server.url, **changes), broker)


def posted(server: ScriptedServer) -> list[bytes]:
    return [request for request in server.requests if request.startswith(b"POST /api/v2/media/transcriptions ")]


def test_an_accepted_submission_is_recorded_with_its_id_and_when_it_is_looked_up(desk: Desk, sandbox: Sandbox) -> None:
    accepted = desk.submitted(GOOD[0])

    (submission,) = desk.submissions(accepted)
    assert accepted.state == State.TRANSCRIBING
    assert (submission.outcome, submission.http_status) == (submissions.ACCEPTED, 202)
    assert submission.transcription_id == accepted.transcription_id
    assert submission.correlation_id
    assert accepted.due_at is not None
    assert accepted.due_at - time.time() == pytest.approx(600, abs=5)
    assert sandbox.stats()["idempotency_keys"] == {submission.callback_ref: 1}


def test_the_intent_is_in_the_ledger_before_the_first_byte_is_sent(
    make_resources: MakeResources, broker: redis.Redis, ledger: Ledger
) -> None:
    seen: list[tuple[str, str]] = []

    def look(connection: socket.socket) -> None:
        with ledger.read() as tx:
            seen.append((tx.execute(table.select()).one().state, tx.execute(sent.select()).one().outcome))
        connection.sendall(reply(202, {"transcriptionId": "t-1"}))

    with ScriptedServer(TOKEN, MEDIA, look) as server:
        desk = scripted(make_resources, broker, server)
        accepted = desk.submitted("m-1")

    assert seen == [("submitting", "open")]
    assert accepted.transcription_id == "t-1"


def test_the_callback_uri_is_a_capability_for_this_submission(
    make_resources: MakeResources, broker: redis.Redis
) -> None:
    with ScriptedServer(TOKEN, MEDIA, reply(202, {"transcriptionId": "t-1"})) as server:
        desk = scripted(make_resources, broker, server)
        accepted = desk.submitted("m-1")
        (request,) = posted(server)

    (webhook,) = json.loads(request.partition(b"\r\n\r\n")[2])["webhooks"]
    token = webhook["uri"].rpartition("/")[2]
    assert verify(token, desk.resources.settings.signing_secrets) == desk.submissions(accepted)[0].callback_ref


def test_a_submit_message_that_is_delivered_again_does_nothing(desk: Desk, sandbox: Sandbox) -> None:
    ready = desk.validated(GOOD[0])
    assert submit(desk.resources, ready.id, ready.epoch, by=BY)
    accepted = desk.now(ready)

    assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
    assert not submit(desk.resources, ready.id, accepted.epoch, by=BY)

    assert desk.now(ready) == accepted
    assert sandbox.stats()["submits"] == 1


def test_a_message_that_was_replaced_by_a_newer_one_submits_nothing(desk: Desk, sandbox: Sandbox) -> None:
    ready = desk.validated(GOOD[0])
    desk.set(ready, due_at=1.0)
    sweep(desk.resources, by=BY)

    assert not submit(desk.resources, ready.id, ready.epoch, by=BY)

    assert sandbox.stats()["submits"] == 0
    (newer,) = desk.messages(queues.SUBMIT)
    assert submit(desk.resources, ready.id, newer["epoch"], by=BY)


def test_a_definite_refusal_fails_the_recording_with_the_words_of_the_api(
    desk: Desk, sandbox: Sandbox, audit_records: list[str]
) -> None:
    ready = desk.validated(GOOD[0])
    sandbox.faults(submit_status=400)

    with capture_logs() as logs:
        assert not submit(desk.resources, ready.id, ready.epoch, by=BY)

    assert [(line["recording_id"], line["http_status"]) for line in logs if line["event"] == "submission_refused"] == [
        (ready.id, 400)
    ]
    found = desk.now(ready)
    assert (found.state, found.reason) == (State.FAILED, Reason.REQUEST_REFUSED)
    assert "The sandbox was told to answer this" in str(found.detail)
    assert [one.outcome for one in desk.submissions(ready)] == [submissions.REFUSED]
    assert [json.loads(line)["status"] for line in audit_records] == ["failed"]


def test_a_429_leaves_it_validated_closes_the_gate_and_burns_no_attempt(
    make_resources: MakeResources, broker: redis.Redis
) -> None:
    with ScriptedServer(TOKEN, MEDIA, reply(429, {"message": "too many"}, Retry_After="17")) as server:
        desk = scripted(make_resources, broker, server)
        ready = desk.validated("m-1")

        with pytest.raises(RateLimited) as caught:
            submit(desk.resources, ready.id, ready.epoch, by=BY)

    found = desk.now(ready)
    assert caught.value.retry_after_seconds == 17
    assert caught.value.epoch == found.epoch > ready.epoch
    assert (found.state, found.attempts) == (State.VALIDATED, 0)
    assert [one.outcome for one in desk.submissions(ready)] == [submissions.NOT_SENT]
    assert desk.resources.limiter.snapshot(CallClass.SUBMIT).gate_seconds == pytest.approx(17, abs=2)


def test_a_long_429_gives_the_recording_back_to_the_ledger_until_the_gate_opens(
    make_resources: MakeResources, broker: redis.Redis
) -> None:
    with ScriptedServer(TOKEN, MEDIA, reply(429, {}, Retry_After="120")) as server:
        desk = scripted(make_resources, broker, server)
        ready = desk.validated("m-1")

        assert not submit(desk.resources, ready.id, ready.epoch, by=BY)

    found = desk.now(ready)
    assert (found.state, found.attempts, found.reason) == (State.VALIDATED, 0, Reason.GIVEN_BACK)
    assert 119 < (found.due_at or 0) - time.time() < 126


def test_after_a_429_the_message_with_the_new_epoch_submits_it_once_the_gate_is_open(
    make_resources: MakeResources, broker: redis.Redis
) -> None:
    replies: list[Reply] = [TOKEN, MEDIA, reply(429, {}, Retry_After="0.2"), reply(202, {"transcriptionId": "t-1"})]
    with ScriptedServer(*replies) as server:
        desk = scripted(make_resources, broker, server)
        ready = desk.validated("m-1")
        with pytest.raises(RateLimited) as caught:
            submit(desk.resources, ready.id, ready.epoch, by=BY)

        assert caught.value.epoch is not None
        assert submit(desk.resources, ready.id, caught.value.epoch, by=BY)

    assert [one.outcome for one in desk.submissions(ready)] == [submissions.NOT_SENT, submissions.ACCEPTED]


def test_a_token_that_is_revoked_during_the_run_is_refreshed_once_and_the_submission_succeeds(
    desk: Desk, sandbox: Sandbox
) -> None:
    ready = desk.validated(GOOD[0])
    sandbox.reset()
    sandbox.faults(revoke_tokens=True)

    def is_accepted() -> bool:
        with suppress(RateLimited):  # another test may have fetched the token that this second has
            return submit(desk.resources, ready.id, desk.now(ready).epoch, by=BY)
        return False

    assert eventually(is_accepted, what="a token")
    assert sandbox.stats()["tokens_issued"] == 1
    assert [one.outcome for one in desk.submissions(ready)] == [submissions.NOT_SENT, submissions.ACCEPTED]
    assert sandbox.stats()["accepted"] == {GOOD[0]: 1}


def test_a_fresh_token_that_is_refused_too_halts_and_fails_nothing(
    make_resources: MakeResources, broker: redis.Redis
) -> None:
    refused = reply(401, {"message": "no"})
    with ScriptedServer(TOKEN, MEDIA, refused, TOKEN, refused) as server:
        desk = scripted(make_resources, broker, server, RETROSCRIBE_TOKEN_LIMIT="100")
        ready = desk.validated("m-1")

        assert not submit(desk.resources, ready.id, ready.epoch, by=BY)

    with desk.resources.ledger.read() as tx:
        halt = controls.halt(tx, desk.resources.client_key)
    assert halt is not None
    assert halt.reason == "CredentialsRejected"
    assert (desk.now(ready).state, desk.now(ready).attempts) == (State.VALIDATED, 0)


def test_a_403_stops_the_run_without_failing_anything_until_a_probe_finds_it_mended(
    desk: Desk, sandbox: Sandbox
) -> None:
    ready = desk.validated(GOOD[0])
    other = desk.validated(GOOD[1])
    (waiting,) = desk.ask([GOOD[2]])
    client_key = desk.resources.client_key
    sandbox.faults(submit_status=403)

    assert not submit(desk.resources, ready.id, ready.epoch, by=BY)

    assert pump(desk.resources, by=BY) == 0
    assert not submit(desk.resources, other.id, other.epoch, by=BY)
    assert not validate(desk.resources, *_queued_by_hand(desk, waiting.id), by=BY)
    assert [desk.state(one) for one in (ready, other, waiting)] == [State.VALIDATED, State.VALIDATED, State.PENDING]
    assert sandbox.stats()["submits"] == 1

    sandbox.faults()
    with desk.resources.ledger.write() as tx:
        halt = controls.halt(tx, client_key)
        assert halt is not None
        assert "media:transcription:write" in halt.detail
        controls.set_halt(tx, client_key, controls.Halt(**{**_fields(halt), "next_probe_at": 0.0}))

    assert pump(desk.resources, by=BY) == 1
    (probe,) = desk.messages(queues.SUBMIT)
    assert probe["recording_id"] == ready.id
    assert pump(desk.resources, by=BY) == 0
    assert submit(desk.resources, ready.id, probe["epoch"], by=BY)

    with desk.resources.ledger.read() as tx:
        assert controls.halt(tx, client_key) is None
    assert submit(desk.resources, other.id, desk.now(other).epoch, by=BY)


def test_a_probe_that_is_refused_again_keeps_the_halt_and_its_beginning(desk: Desk, sandbox: Sandbox) -> None:
    ready = desk.validated(GOOD[0])
    sandbox.faults(submit_status=403)
    submit(desk.resources, ready.id, ready.epoch, by=BY)
    with desk.resources.ledger.write() as tx:
        first = controls.halt(tx, desk.resources.client_key)
        assert first is not None
        controls.set_halt(tx, desk.resources.client_key, controls.Halt(**{**_fields(first), "next_probe_at": 0.0}))
    pump(desk.resources, by=BY)

    assert not submit(desk.resources, ready.id, desk.now(ready).epoch, by=BY)

    with desk.resources.ledger.read() as tx:
        second = controls.halt(tx, desk.resources.client_key)
    assert second is not None
    assert second.since == first.since
    assert second.next_probe_at > time.time() + 50
    assert desk.state(ready) == State.VALIDATED


@pytest.mark.parametrize("what", ["502", "cut"])
def test_an_unknown_outcome_is_never_posted_again_and_the_event_proves_it(
    desk: Desk, sandbox: Sandbox, what: str
) -> None:
    ready = desk.validated(GOOD[0])
    sandbox.faults(accept_then=what, webhooks="lost")

    assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
    unknown = desk.now(ready)
    assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
    assert not submit(desk.resources, ready.id, unknown.epoch, by=BY)

    (submission,) = desk.submissions(ready)
    assert (unknown.state, submission.outcome) == (State.UNKNOWN, submissions.UNKNOWN)
    receive(desk.resources, submission.callback_ref, completed("t-1", "hello", media_id=GOOD[0]))
    index(desk.resources, ready.id, by=BY)
    assert desk.state(ready) == State.INDEXED
    assert desk.submissions(ready)[0].outcome == submissions.ACCEPTED
    assert sandbox.stats()["submits"] == 1


def test_a_202_without_an_id_is_unknown(make_resources: MakeResources, broker: redis.Redis) -> None:
    with ScriptedServer(TOKEN, MEDIA, reply(202, {})) as server:
        desk = scripted(make_resources, broker, server)
        ready = desk.validated("m-1")

        assert not submit(desk.resources, ready.id, ready.epoch, by=BY)

        assert len(posted(server)) == 1
    assert desk.state(ready) == State.UNKNOWN


def test_an_api_that_can_not_be_reached_leaves_it_validated_and_burns_no_attempt(
    make_resources: MakeResources, broker: redis.Redis
) -> None:
    with ScriptedServer(TOKEN, MEDIA) as server:
        desk = scripted(make_resources, broker, server)
        ready = desk.validated("m-1")
    desk.resources.client.close()
    desk.resources.__dict__.pop("client")

    with pytest.raises(ApiUnreachable):
        submit(desk.resources, ready.id, ready.epoch, by=BY)

    assert (desk.now(ready).state, desk.now(ready).attempts) == (State.VALIDATED, 0)


def test_neither_token_nor_callback_secret_is_logged(desk: Desk, sandbox: Sandbox) -> None:
    with capture_logs() as logs:
        accepted = desk.submitted(GOOD[0])
        sandbox.faults(submit_status=400)
        other = desk.validated(GOOD[1])
        submit(desk.resources, other.id, other.epoch, by=BY)

    text = repr(logs)
    assert f"'recording_id': {accepted.id}" in text
    assert desk.resources.tokens.get().value not in text
    assert desk.submissions(accepted)[0].callback_ref not in text


def _queued_by_hand(desk: Desk, recording_id: int) -> tuple[int, int]:
    """A recording that was handed out just before the halt."""
    with desk.resources.ledger.write() as tx:
        tx.execute(table.update().where(table.c.id == recording_id).values(state=State.QUEUED))
        return recording_id, tx.execute(table.select().where(table.c.id == recording_id)).one().epoch


def _fields(halt: controls.Halt) -> dict[str, object]:
    return {name: getattr(halt, name) for name in halt.__slots__}
