"""A submission whose outcome nobody knows: late news, policy, repetition byte for byte, and the spool."""

import socket
import threading
from contextlib import suppress

import pytest
import redis

from tests.conftest import MakeResources
from tests.support.desk import BY, Desk, completed, failed
from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from tests.support.scripted_server import ScriptedServer, reply
from workers.errors import RateLimited, Retryable
from workers.ledger import submissions
from workers.model import Reason, Recording, State
from workers.pipeline import acceptance
from workers.pipeline.acceptance import Acceptance
from workers.pipeline.events import receive
from workers.pipeline.index import index
from workers.pipeline.submit import submit
from workers.pipeline.sweep import sweep
from workers.pipeline.unknown import free

pytestmark = pytest.mark.both_ledgers

PAST = 1.0
TOKEN = reply(200, {"access_token": "a-token", "expires_in": 3600, "token_type": "bearer"})
MEDIA = reply(200, {"id": "m-1", "format": "ogg", "codec": "opus", "duration": 60})


@pytest.fixture
def resubmitting(make_resources: MakeResources, broker: redis.Redis) -> Desk:
    """A desk whose policy is `resubmit`."""
    return Desk(make_resources(RETROSCRIBE_UNKNOWN_POLICY="resubmit"), broker)


def lost_answer(desk: Desk, sandbox: Sandbox, media_id: str = GOOD[0]) -> Recording:
    """Accepted, and neither the answer nor the webhook came."""
    ready = desk.validated(media_id)
    sandbox.faults(accept_then="cut", webhooks="lost")
    assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
    sandbox.faults()
    return desk.now(ready)


def swept(desk: Desk, recording: Recording) -> Recording:
    """After the moment of the sweep has come for it."""
    desk.set(recording, due_at=PAST)
    sweep(desk.resources, by=BY)
    return desk.now(recording)


def submit_now(desk: Desk, recording: Recording) -> bool:
    return submit(desk.resources, recording.id, desk.now(recording).epoch, by=BY)


class TestPolicy:
    def test_resubmit_sends_the_same_bytes_with_the_same_key_and_a_server_that_minds_it_charges_once(
        self, resubmitting: Desk, sandbox: Sandbox
    ) -> None:
        unknown = lost_answer(resubmitting, sandbox)
        (before,) = resubmitting.submissions(unknown)

        repeated = swept(resubmitting, unknown)
        assert (repeated.state, repeated.repeats) == (State.VALIDATED, before.id)
        assert submit_now(resubmitting, repeated)

        (after,) = resubmitting.submissions(unknown)
        assert (after.sends, after.outcome, after.callback_ref) == (2, submissions.ACCEPTED, before.callback_ref)
        assert after.request_digest == before.request_digest
        assert resubmitting.state(unknown) == State.TRANSCRIBING
        assert list(sandbox.stats()["idempotency_keys"].values()) == [2]

    def test_the_repeated_request_is_equal_byte_for_byte(
        self, make_resources: MakeResources, broker: redis.Redis
    ) -> None:
        accepted = reply(202, {"transcriptionId": "t-1"})
        with ScriptedServer(TOKEN, MEDIA, reply(500, {}), accepted) as server:
            desk = Desk(make_resources(GENESYS_BASE_URL=server.url, RETROSCRIBE_UNKNOWN_POLICY="resubmit"), broker)
            ready = desk.validated("m-1")
            assert not submit_now(desk, ready)
            assert submit_now(desk, swept(desk, ready))

            first, second = (one for one in server.requests if one.startswith(b"POST /api/v2/media/transcriptions "))
        assert first == second

    def test_it_repeats_once_only(self, resubmitting: Desk, sandbox: Sandbox) -> None:
        unknown = lost_answer(resubmitting, sandbox)
        repeated = swept(resubmitting, unknown)
        sandbox.faults(accept_then="cut", webhooks="lost")
        assert not submit_now(resubmitting, repeated)

        found = swept(resubmitting, unknown)

        assert (found.state, found.reason) == (State.PARKED, Reason.OUTCOME_UNKNOWN)
        assert sandbox.stats()["submits"] == 2

    def test_a_repetition_that_was_surely_not_accepted_still_leaves_the_first_one_unknown(
        self, resubmitting: Desk, sandbox: Sandbox
    ) -> None:
        unknown = lost_answer(resubmitting, sandbox)
        repeated = swept(resubmitting, unknown)
        sandbox.faults(submit_status=429, count=1)
        with pytest.raises(RateLimited):
            submit_now(resubmitting, repeated)

        (submission,) = resubmitting.submissions(unknown)
        waiting = resubmitting.now(unknown)
        assert (waiting.state, submission.outcome) == (State.VALIDATED, submissions.UNKNOWN)
        assert waiting.repeats == submission.id

    def test_a_repetition_that_is_refused_is_parked_and_not_failed(self, resubmitting: Desk, sandbox: Sandbox) -> None:
        unknown = lost_answer(resubmitting, sandbox)
        repeated = swept(resubmitting, unknown)
        sandbox.faults(submit_status=409)
        assert not submit_now(resubmitting, repeated)
        assert resubmitting.now(unknown).reason == Reason.REPEAT_REFUSED

        found = swept(resubmitting, unknown)

        assert found.state == State.PARKED
        assert "409" in (found.detail or "")

    def test_what_can_not_be_repeated_byte_for_byte_is_parked_with_the_reason(
        self, resubmitting: Desk, make_resources: MakeResources, broker: redis.Redis, sandbox: Sandbox
    ) -> None:
        unknown = lost_answer(resubmitting, sandbox)
        moved = Desk(make_resources(RETROSCRIBE_PUBLIC_URL="https://elsewhere.example"), broker)

        found = swept(moved, unknown)

        assert (found.state, found.reason) == (State.PARKED, Reason.OUTCOME_UNKNOWN)
        assert "RETROSCRIBE_PUBLIC_URL" in (found.detail or "")

    def test_a_worker_with_other_settings_sends_nothing_and_it_is_parked(
        self, resubmitting: Desk, make_resources: MakeResources, broker: redis.Redis, sandbox: Sandbox
    ) -> None:
        unknown = lost_answer(resubmitting, sandbox)
        repeated = swept(resubmitting, unknown)
        moved = Desk(make_resources(RETROSCRIBE_PUBLIC_URL="https://elsewhere.example"), broker)

        assert not submit_now(moved, repeated)
        assert resubmitting.now(unknown).reason == Reason.REPEAT_IMPOSSIBLE
        assert swept(resubmitting, unknown).state == State.PARKED
        assert sandbox.stats()["submits"] == 1

    def test_an_old_secret_that_is_still_listed_makes_the_same_bytes(
        self, make_resources: MakeResources, broker: redis.Redis, sandbox: Sandbox
    ) -> None:
        old, new = "an old secret of ours", "a new secret of ours"
        unknown = lost_answer(Desk(make_resources(RETROSCRIBE_WEBHOOK_SECRETS=old), broker), sandbox)
        changes = {"RETROSCRIBE_WEBHOOK_SECRETS": f"{new},{old}", "RETROSCRIBE_UNKNOWN_POLICY": "resubmit"}
        desk = Desk(make_resources(**changes), broker)

        assert submit_now(desk, swept(desk, unknown))

    def test_both_answers_of_a_server_that_charges_twice_are_counted_and_the_document_is_one(
        self, resubmitting: Desk, sandbox: Sandbox
    ) -> None:
        unknown = lost_answer(resubmitting, sandbox)
        assert submit_now(resubmitting, swept(resubmitting, unknown))
        ref = resubmitting.submissions(unknown)[0].callback_ref

        receive(resubmitting.resources, ref, completed("t-of-the-first", "hello"))
        index(resubmitting.resources, unknown.id, by=BY)

        assert resubmitting.state(unknown) == State.INDEXED
        with resubmitting.resources.ledger.read() as tx:
            assert submissions.doubles_of(tx, unknown.id) == ["t-of-the-first"]

    def test_no_policy_overtakes_an_event_that_waits(self, resubmitting: Desk, sandbox: Sandbox) -> None:
        unknown = lost_answer(resubmitting, sandbox)
        repeated = swept(resubmitting, unknown)
        ref = resubmitting.submissions(unknown)[0].callback_ref
        receive(resubmitting.resources, ref, completed("t-1", "hello"))

        assert not submit_now(resubmitting, repeated)
        index(resubmitting.resources, unknown.id, by=BY)

        assert resubmitting.state(unknown) == State.INDEXED
        assert sandbox.stats()["submits"] == 1


class TestLateNews:
    """A worker that was frozen until its lease was over tells what its call met."""

    def frozen(self, desk: Desk, wake: threading.Event) -> Recording:
        """Submits to a server that answers only after the sweep has found the lease over."""
        ready = desk.validated("m-1")
        worker = threading.Thread(target=self._submit, args=(desk, ready))
        worker.start()
        eventually(lambda: desk.state(ready) == State.SUBMITTING, what="the intent")
        assert swept(desk, ready).state == State.UNKNOWN
        wake.set()
        worker.join()
        return desk.now(ready)

    def _submit(self, desk: Desk, ready: Recording) -> None:
        with suppress(Retryable):  # Celery would try again with a message whose epoch is stale
            submit(desk.resources, ready.id, ready.epoch, by=BY)

    @pytest.mark.parametrize(
        ("answer", "state"),
        [
            (reply(202, {"transcriptionId": "t-1"}), State.TRANSCRIBING),
            (reply(429, {}, Retry_After="1"), State.VALIDATED),
            (reply(400, {"message": "no"}), State.VALIDATED),
            (reply(500, {}), State.UNKNOWN),
        ],
        ids=["accepted", "not sent", "refused", "unknown"],
    )
    def test_facts_are_recorded_and_decisions_are_not(
        self, make_resources: MakeResources, broker: redis.Redis, answer: bytes, state: State
    ) -> None:
        wake = threading.Event()

        def late(stream: socket.socket) -> None:
            wake.wait(20)
            stream.sendall(answer)

        with ScriptedServer(TOKEN, MEDIA, late) as server:
            desk = Desk(make_resources(GENESYS_BASE_URL=server.url), broker)
            assert self.frozen(desk, wake).state == state

    def test_proof_of_not_sent_for_an_earlier_submission_frees_nothing(self, desk: Desk, sandbox: Sandbox) -> None:
        unknown = lost_answer(desk, sandbox)
        (first,) = desk.submissions(unknown)
        with desk.resources.ledger.write() as tx:
            second = submissions.open_next(
                tx, unknown.id, callback_ref="f" * 32, epoch=unknown.epoch, request_digest=bytes(32)
            )
            submissions.settle(tx, second, submissions.UNKNOWN)
            settled = submissions.settle(tx, first.id, submissions.NOT_SENT)
            free(tx, settled, "late", by=BY)

        assert desk.state(unknown) == State.UNKNOWN


class TestEventsOfEarlierSubmissions:
    def test_the_failure_of_an_earlier_submission_leaves_the_present_one_alone(
        self, desk: Desk, sandbox: Sandbox
    ) -> None:
        unknown = lost_answer(desk, sandbox)
        (first,) = desk.submissions(unknown)
        desk.set(unknown, state=State.VALIDATED)  # a person had it submitted anew
        assert submit_now(desk, unknown)

        receive(desk.resources, first.callback_ref, failed("t-first", "no speech"))
        index(desk.resources, unknown.id, by=BY)

        assert desk.state(unknown) == State.TRANSCRIBING
        assert desk.submissions(unknown)[0].failed_at is not None

    def test_after_a_proved_failure_its_late_202_does_not_stop_the_retry(self, desk: Desk) -> None:
        accepted = desk.submitted(GOOD[0])
        (first,) = desk.submissions(accepted)
        theirs = str(accepted.transcription_id)
        receive(desk.resources, first.callback_ref, failed(theirs, "no speech"))
        index(desk.resources, accepted.id, by=BY)
        assert desk.state(accepted) == State.FAILED
        desk.set(accepted, state=State.VALIDATED, transcription_id=None, due_at=PAST)

        with desk.resources.ledger.write() as tx:
            acceptance.record(tx, desk.resources, Acceptance(first.callback_ref, theirs), by=BY)

        assert desk.state(accepted) == State.VALIDATED
        assert submit_now(desk, accepted)
