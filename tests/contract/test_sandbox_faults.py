"""The sandbox delivers webhooks as the contract says, and fails in the ways it is told to."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD, ODD, SUBMIT, WebhookReceiver, body, client, finished, mint, submit


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(rate=1000, processing_seconds=0.05) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def api(running: Sandbox) -> Iterator[httpx.Client]:
    with client(running, mint(running).json()["access_token"]) as api:
        yield api


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.faults()
    running.reset()
    return running


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.close()


class TestWebhooks:
    def test_a_completed_transcription_is_delivered_once(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        transcription_id = submit(api, GOOD[4], receiver)
        eventually(lambda: sandbox.stats()["webhooks_delivered"] == 1, 5)
        [event] = receiver.bodies
        assert event["eventType"] == "transcription.completed"
        assert event["data"] == finished(api, transcription_id)
        assert event["data"]["completedAt"].endswith("Z")

    def test_an_event_that_was_not_asked_for_is_not_sent(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        only_failed = [{"uri": receiver.uri, "events": ["transcription.failed"]}]
        finished(api, submit(api, GOOD[5], webhooks=only_failed))
        submit(api, ODD[0], webhooks=only_failed)
        eventually(lambda: sandbox.stats()["webhooks_delivered"] == 1, 5)
        assert [event["eventType"] for event in receiver.bodies] == ["transcription.failed"]

    def test_an_answer_other_than_200_or_204_is_tried_again(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        receiver.answers = [202, 204]
        submit(api, GOOD[6], receiver)
        eventually(lambda: sandbox.stats()["webhooks_delivered"] == 1, 8)
        assert len(receiver.bodies) == 2

    def test_the_never_finishing_share_stays_in_processing(self, receiver: WebhookReceiver) -> None:
        stuck = Sandbox(processing_seconds=0, never_finish=1)
        with stuck, client(stuck, mint(stuck).json()["access_token"]) as api:
            transcription_id = submit(api, GOOD[0], receiver)
            assert api.get(f"{SUBMIT}/{transcription_id}").json()["status"] == "processing"
        assert receiver.bodies == []


class TestFaults:
    @pytest.mark.parametrize("status", [403, 500, 503])
    def test_submit_status_is_answered_without_accepting_and_count_limits_it(
        self, sandbox: Sandbox, api: httpx.Client, status: int
    ) -> None:
        sandbox.faults(submit_status=status, count=1)
        assert [api.post(SUBMIT, json=body(GOOD[7])).status_code for _ in range(2)] == [status, 202]
        assert sandbox.stats()["accepted"] == {GOOD[7]: 1}

    def test_media_and_token_status(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(media_status=500, token_status=401)
        assert api.get(f"/api/v2/media/{GOOD[0]}").status_code == 500
        assert mint(sandbox).status_code == 401

    def test_revoked_tokens_are_401_and_new_ones_work(self) -> None:
        with Sandbox() as fresh:
            with client(fresh, mint(fresh).json()["access_token"]) as api:
                fresh.faults(revoke_tokens=True)
                assert api.get(f"/api/v2/media/{GOOD[0]}").status_code == 401
            with client(fresh, mint(fresh).json()["access_token"]) as api:
                assert api.get(f"/api/v2/media/{GOOD[0]}").status_code == 200

    def test_lost_webhooks_complete_silently(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(webhooks="lost", count=1)
        assert finished(api, submit(api, GOOD[8], receiver))["status"] == "completed"
        submit(api, GOOD[9], receiver)
        eventually(lambda: sandbox.stats()["webhooks_delivered"] == 1, 5)
        assert [event["data"]["result"]["mediaId"] for event in receiver.bodies] == [GOOD[9]]

    def test_doubled_webhooks_come_twice(self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver) -> None:
        sandbox.faults(webhooks="doubled")
        submit(api, GOOD[10], receiver)
        eventually(lambda: sandbox.stats()["webhooks_delivered"] == 2, 5)
        assert receiver.bodies[0] == receiver.bodies[1]

    def test_an_early_webhook_comes_before_the_answer(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(webhooks="early")
        transcription_id = submit(api, GOOD[11], receiver)
        assert [event["data"]["transcriptionId"] for event in receiver.bodies] == [transcription_id]

    def test_accepted_and_then_502_counts_as_accepted(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(accept_then="502", count=1)
        assert api.post(SUBMIT, json=body(GOOD[12])).status_code == 502
        assert sandbox.stats()["accepted"] == {GOOD[12]: 1}

    def test_accepted_and_then_cut_counts_as_accepted(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(accept_then="cut", count=1)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            api.post(SUBMIT, json=body(GOOD[13], receiver))
        eventually(lambda: receiver.bodies, 5)
        assert sandbox.stats()["accepted"] == {GOOD[13]: 1}

    def test_slow_seconds_delays_the_answer_not_the_acceptance(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(slow_seconds=1)
        with pytest.raises(httpx.ReadTimeout):
            api.post(SUBMIT, json=body(GOOD[14]), timeout=0.2)
        assert sandbox.stats()["accepted"] == {GOOD[14]: 1}

    def test_a_missing_status_route_is_404_for_a_known_id(self, sandbox: Sandbox, api: httpx.Client) -> None:
        transcription_id = submit(api, GOOD[15])
        sandbox.faults(status_route="missing")
        assert api.get(f"{SUBMIT}/{transcription_id}").status_code == 404

    @pytest.mark.parametrize(
        "wanted", [{"nonsense": 1}, {"webhooks": "late"}, {"submit_status": 200}, {"count": 0}, []]
    )
    def test_an_unknown_fault_is_400_and_leaves_the_others(
        self, sandbox: Sandbox, api: httpx.Client, wanted: object
    ) -> None:
        sandbox.faults(media_status=500, count=3)
        answer = api.put("/_sandbox/faults", json=wanted)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("The fault")
        assert api.get("/_sandbox/faults").json() == {"media_status": 500, "count": 3}
