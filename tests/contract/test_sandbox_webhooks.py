"""The sandbox delivers webhooks as the contract says, and fails to in the ways it is told to."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import EVENTS, GOOD, ODD, SUBMIT, WebhookReceiver, client, finished, mint, submit
from workers.sandbox.events import FOREIGN_WORDS


@pytest.fixture(scope="module")
def api(shared_sandbox: Sandbox) -> Iterator[httpx.Client]:
    with client(shared_sandbox, mint(shared_sandbox).json()["access_token"]) as api:
        yield api


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

    def test_a_late_webhook_comes_after_those_that_were_accepted_later(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(webhooks="late", late_seconds=1.5, count=1)
        late = submit(api, GOOD[20], receiver)
        assert finished(api, late)["status"] == "completed"
        punctual = submit(api, GOOD[21], receiver)
        assert ids_of(events(sandbox, receiver, 2)) == [punctual, late]

    def test_an_out_of_order_webhook_is_overtaken_and_followed_by_an_older_copy(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(webhooks="out_of_order", late_seconds=600, count=1)
        held = submit(api, GOOD[22], receiver)
        finished(api, held)
        overtaking = submit(api, GOOD[23], receiver)
        came = events(sandbox, receiver, 3)
        assert ids_of(came) == [overtaking, held, held]
        assert ["result" in event["data"] for event in came] == [True, True, False]
        assert {event["eventType"] for event in came} == {"transcription.completed"}

    def test_an_out_of_order_webhook_that_nothing_overtakes_comes_late(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(webhooks="out_of_order", late_seconds=0)
        held = submit(api, GOOD[24], receiver)
        assert ids_of(events(sandbox, receiver, 2)) == [held, held]

    def test_a_webhook_without_result_leaves_it_to_the_status_route(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(webhooks="no_result")
        status = finished(api, submit(api, GOOD[25], receiver))
        [event] = events(sandbox, receiver, 1)
        assert event == {
            "eventType": "transcription.completed",
            "data": {name: value for name, value in status.items() if name != "result"},
        }
        assert status["result"]["transcripts"]

    def test_a_contradicted_webhook_stands_between_two_that_say_failed(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(webhooks="contradicted")
        transcription_id = submit(api, GOOD[26], receiver)
        came = events(sandbox, receiver, 3)
        assert [event["data"]["status"] for event in came] == ["failed", "completed", "failed"]
        assert [event["eventType"].rpartition(".")[2] for event in came] == ["failed", "completed", "failed"]
        assert set(ids_of(came)) == {transcription_id}
        assert finished(api, transcription_id)["status"] == "completed"

    def test_a_webhook_with_a_wrong_media_comes_before_the_right_one(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(webhooks="wrong_media")
        status = finished(api, submit(api, GOOD[27], receiver))
        wrong, right = events(sandbox, receiver, 2)
        assert right["data"] == status
        assert wrong["data"]["transcriptionId"] == status["transcriptionId"]
        assert wrong["data"]["result"]["mediaId"] != GOOD[27]
        assert [segment["text"] for segment in wrong["data"]["result"]["transcripts"]] == [FOREIGN_WORDS]

    @pytest.mark.parametrize("media_id", [GOOD[28], ODD[0]])
    def test_a_forged_webhook_goes_to_another_uri_before_the_true_one(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver, media_id: str
    ) -> None:
        sandbox.faults(webhooks="forged")
        webhook = {"uri": f"{receiver.uri}/ref.0123456789", "events": EVENTS}
        status = finished(api, submit(api, media_id, webhooks=[webhook]))
        forged, true = events(sandbox, receiver, 2)
        assert receiver.paths == ["/hook/ref.0123forged", "/hook/ref.0123456789"]
        assert true["data"] == status
        assert forged["data"]["result"]["mediaId"] == media_id
        assert forged["data"]["result"]["transcripts"][0]["text"] == FOREIGN_WORDS


def events(sandbox: Sandbox, receiver: WebhookReceiver, count: int) -> list[dict[str, Any]]:
    """What was delivered, in the order in which it came, when it is `count` events."""
    eventually(lambda: sandbox.totals()["webhooks_delivered"] == count, 8, f"{count} deliveries")
    return receiver.bodies


def ids_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["transcriptionId"] for event in events]
