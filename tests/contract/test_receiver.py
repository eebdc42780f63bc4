"""The webhook receiver in a process of its own, over a real ledger and a real broker."""

import base64
import json
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from tests.support.desk import completed, failed
from tests.support.eventually import eventually
from tests.support.receiver import ACCEPTED, MOST_BYTES, SECRETS, SPOKEN, STRANGER, UNAUTHORIZED, Receiver, token
from tests.support.valkey import Valkey
from workers.model import State
from workers.pipeline.callbacks import CALLBACK_PATH, mint


def asked_for(client: redis.Redis) -> list[dict[str, Any]]:
    """The arguments of the index messages that wait."""
    bodies = [json.loads(raw)["body"] for raw in client.lrange("retroscribe.index", 0, -1)]
    return [json.loads(base64.b64decode(body))[1] for body in bodies]


class TestKept:
    def test_given_a_valid_event_then_it_is_accepted_kept_and_its_index_task_is_sent(
        self, receiver: Receiver, shared_valkey: Valkey
    ) -> None:
        recording, ref = receiver.submitted()
        body = completed(f"t-{recording.media_id}", SPOKEN)

        assert receiver.post(token(ref), body) == ACCEPTED

        (event,) = receiver.kept(ref)
        assert (event["recording_id"], event["state"], event["has_result"]) == (recording.id, "new", True)
        wanted = {"recording_id": recording.id, "media_id": recording.media_id}
        with shared_valkey.client() as client:
            eventually(lambda: wanted in asked_for(client), 10, what="the index message")

    def test_given_the_same_event_twice_then_both_are_accepted_and_one_is_kept(self, receiver: Receiver) -> None:
        recording, ref = receiver.submitted()
        body = completed(f"t-{recording.media_id}", SPOKEN)

        assert [receiver.post(token(ref), body) for _ in range(2)] == [ACCEPTED, ACCEPTED]

        assert len(receiver.kept(ref)) == 1

    def test_given_a_completed_one_without_result_before_then_the_one_with_result_takes_its_place(
        self, receiver: Receiver
    ) -> None:
        recording, ref = receiver.submitted()
        bare = {"eventType": "transcription.completed", "data": {"transcriptionId": f"t-{recording.media_id}"}}

        assert receiver.post(token(ref), json.dumps(bare)) == ACCEPTED
        assert receiver.post(token(ref), completed(f"t-{recording.media_id}", SPOKEN)) == ACCEPTED

        assert [event["has_result"] for event in receiver.kept(ref)] == [True]

    @pytest.mark.parametrize("secret", SECRETS)
    def test_given_a_token_of_any_valid_secret_then_it_is_accepted(self, receiver: Receiver, secret: bytes) -> None:
        recording, ref = receiver.submitted()

        assert receiver.post(mint(ref, [secret]), failed(f"t-{recording.media_id}", "no speech")) == ACCEPTED

        assert len(receiver.kept(ref)) == 1

    def test_given_a_valid_token_of_no_submission_then_the_event_is_kept_as_unmatched(self, receiver: Receiver) -> None:
        ref = uuid.uuid4().hex

        assert receiver.post(token(ref), completed("t-before-the-restore", SPOKEN)) == ACCEPTED

        assert [(event["recording_id"], event["state"]) for event in receiver.kept(ref)] == [(None, "unmatched")]

    def test_given_an_id_of_another_recording_then_the_event_is_kept_as_refused(self, receiver: Receiver) -> None:
        other, _ = receiver.submitted()
        recording, ref = receiver.submitted()

        assert receiver.post(token(ref), completed(f"t-{other.media_id}", SPOKEN)) == ACCEPTED

        assert [(event["recording_id"], event["state"]) for event in receiver.kept(ref)] == [(recording.id, "refused")]

    def test_given_many_senders_at_once_then_every_event_is_kept(self, receiver: Receiver) -> None:
        submitted = [receiver.submitted() for _ in range(40)]

        with ThreadPoolExecutor(20) as senders:
            answers = senders.map(
                lambda one: receiver.post(token(one[1]), completed(f"t-{one[0].media_id}", SPOKEN)), submitted
            )

        assert list(answers) == [ACCEPTED] * 40
        assert all(len(receiver.kept(ref)) == 1 for _, ref in submitted)


class TestNotKept:
    def test_given_an_event_type_that_means_nothing_then_it_is_accepted_and_not_kept(self, receiver: Receiver) -> None:
        recording, ref = receiver.submitted()
        body = {"eventType": "transcription.progress", "data": {"transcriptionId": f"t-{recording.media_id}"}}

        assert receiver.post(token(ref), json.dumps(body)) == ACCEPTED

        assert receiver.kept(ref) == []

    def test_given_a_forgotten_recording_then_the_event_is_accepted_and_not_kept(self, receiver: Receiver) -> None:
        recording, ref = receiver.submitted(state=State.FORGOTTEN)

        assert receiver.post(token(ref), completed(f"t-{recording.media_id}", SPOKEN)) == ACCEPTED

        assert receiver.kept(ref) == []

    @pytest.mark.parametrize("body", ["", "{", "[]", '"text"', "{}", '{"eventType": "transcription.completed"}'])
    def test_given_a_malformed_body_then_the_answer_is_400_and_nothing_is_kept(
        self, receiver: Receiver, body: str
    ) -> None:
        _, ref = receiver.submitted()

        status, answer = receiver.post(token(ref), body)

        assert (status, answer["status"]) == (400, "malformed")
        assert receiver.kept(ref) == []

    @pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
    def test_given_a_body_over_the_limit_then_the_answer_is_413_and_the_recording_is_polled_now(
        self, receiver: Receiver, chunked: bool
    ) -> None:
        recording, ref = receiver.submitted()
        body = completed(f"t-{recording.media_id}", SPOKEN * MOST_BYTES)

        status, answer = receiver.post(token(ref), iter([body[:5000], body[5000:]]) if chunked else body)

        assert (status, answer["status"]) == (413, "too_large")
        assert receiver.kept(ref) == []
        assert receiver.due_at(recording) <= time.time()

    def test_given_a_sender_that_hangs_up_then_the_next_one_is_served(self, receiver: Receiver) -> None:
        recording, ref = receiver.submitted()
        head = f"POST {CALLBACK_PATH}/{token(ref)} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
        with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
            connection.sendall(head.encode() + b'{"eventType":')

        assert receiver.post(token(ref), completed(f"t-{recording.media_id}", SPOKEN)) == ACCEPTED
        assert "Traceback" not in receiver.log.read_text()


class TestUnauthorized:
    def test_given_a_token_of_another_recording_then_the_answer_is_that_to_a_forged_one(
        self, receiver: Receiver
    ) -> None:
        other, _ = receiver.submitted()
        recording, ref = receiver.submitted()
        body = completed(f"t-{recording.media_id}", SPOKEN, media_id=other.media_id)

        assert receiver.post(token(ref), body) == UNAUTHORIZED
        assert receiver.post(mint(ref, STRANGER), body) == UNAUTHORIZED

        assert receiver.kept(ref) == []

    @pytest.mark.parametrize(
        "odd",
        ["", "x", "%00", "%ff%fe", "%2e%2e%2f", "a/b", "REF.", "REF", "REF.MAC/", "REF.MAC%00", "REF.MAC.MAC"],
    )
    def test_given_something_else_in_place_of_a_token_then_the_answer_is_the_same(
        self, receiver: Receiver, odd: str
    ) -> None:
        _, ref = receiver.submitted()
        mac = token(ref).partition(".")[2]

        answer = receiver.post(odd.replace("REF", ref).replace("MAC", mac), completed("t", SPOKEN))

        assert answer == UNAUTHORIZED

    def test_given_another_method_then_it_is_not_allowed(self, receiver: Receiver) -> None:
        _, ref = receiver.submitted()

        answers = {method: receiver.sender.request(method, receiver.url(token(ref))) for method in ("GET", "HEAD")}

        assert {method: answer.status_code for method, answer in answers.items()} == {"GET": 405, "HEAD": 405}


class TestPartsAway:
    def test_given_no_broker_then_the_event_is_accepted_at_once_and_kept(self, lonely: Receiver) -> None:
        submitted = [lonely.submitted() for _ in range(3)]

        began = time.monotonic()
        answers = [lonely.post(token(ref), completed(f"t-{one.media_id}", SPOKEN)) for one, ref in submitted]

        assert answers == [ACCEPTED] * 3
        assert time.monotonic() - began < 4  # none waited for the broker, whose client tries for longer
        assert all(len(lonely.kept(ref)) == 1 for _, ref in submitted)

    def test_given_no_ledger_then_503_asks_to_come_again_and_only_a_good_token_finds_out(
        self, lonely: Receiver
    ) -> None:
        recording, ref = lonely.submitted()
        body = completed(f"t-{recording.media_id}", SPOKEN)
        ready = lonely.get("/readyz").status_code
        with lonely.ledger.write() as tx:
            tx.exec_driver_sql("ALTER TABLE submissions RENAME TO elsewhere")
            tx.exec_driver_sql("ALTER TABLE events RENAME TO elsewhere_too")

        answer = lonely.sender.post(lonely.url(token(ref)), content=body)
        large = lonely.sender.post(lonely.url(token(ref)), content=b"x" * 2 * MOST_BYTES)

        for one in (answer, large):
            assert (one.status_code, one.json()["status"]) == (503, "unavailable")
            assert int(one.headers["Retry-After"]) > 0
        assert lonely.post(mint(ref, STRANGER), body) == UNAUTHORIZED  # it never came as far as the ledger
        assert (ready, lonely.get("/readyz").status_code) == (200, 503)
        assert lonely.get("/healthz").json() == {"status": "ok"}
        assert lonely.metrics()['retroscribe_receiver_events_total{verdict="unavailable"}'] == 2
        with lonely.ledger.write() as tx:
            tx.exec_driver_sql("ALTER TABLE elsewhere RENAME TO submissions")
            tx.exec_driver_sql("ALTER TABLE elsewhere_too RENAME TO events")
        assert lonely.post(token(ref), body) == ACCEPTED


def test_given_every_kind_of_delivery_then_the_log_holds_neither_token_nor_transcript(receiver: Receiver) -> None:
    recording, ref = receiver.submitted()
    other, _ = receiver.submitted()
    mine, theirs = token(ref), mint(ref, STRANGER)
    deliveries = [
        (mine, completed(f"t-{recording.media_id}", SPOKEN)),
        (mine, completed(f"t-{recording.media_id}", SPOKEN, media_id=other.media_id)),
        (mine, failed(f"t-{recording.media_id}", SPOKEN)),
        (mine, f'{{"eventType": "{SPOKEN}", "data": {{}}}}'),
        (mine, f"{SPOKEN} is not JSON"),
        (mine, SPOKEN * MOST_BYTES),
        (theirs, completed(f"t-{recording.media_id}", SPOKEN)),
        (f"{mine}/", SPOKEN),
    ]

    answers = [receiver.post(*delivery)[0] for delivery in deliveries]
    receiver.get(f"{CALLBACK_PATH}/{mine}")

    assert answers == [200, 401, 200, 200, 400, 413, 401, 401]
    log = receiver.log.read_text()
    assert "verdict=accepted" in log
    for secret in (SPOKEN, mine.partition(".")[2], theirs.partition(".")[2], *(one.decode() for one in SECRETS)):
        assert secret not in log
