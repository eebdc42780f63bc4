"""Whatever strangers send: no crash, no acceptance, and the next valid event is taken as ever."""

import json
import random
import re
from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from schemathesis import checks as conformance

from config.settings import Settings
from tests.support.desk import completed
from tests.support.receiver import ACCEPTED, MOST_BYTES, SPOKEN, Receiver, token
from workers.pipeline.callbacks import CALLBACK_PATH
from workers.receiver.app import openapi_document
from workers.resources import Resources

SEED = 20261126
DOCUMENT = openapi_document(Resources(Settings()))
# Of each its own, for a test may change the cases that are made.
FOR_A_SENDER, FOR_A_STRANGER = (schemathesis.openapi.from_dict(DOCUMENT) for _ in range(2))
PLAIN_NONSENSE = [
    b"",
    b"\r\n\r\n",
    b"\0" * 100,
    b"\xff" * 5000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /\r\n\r\n",
    b"POST " + b"/" * 70_000,
    b"POST / HTTP/1.1\nHost: x\n\n",
]


def post(secret: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"POST {CALLBACK_PATH}/{secret} HTTP/1.1", "Host: x", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def wrong_lengths(secret: str) -> list[bytes]:
    event = completed("t-wrong", SPOKEN)
    chunked = "Transfer-Encoding: chunked"
    return [
        post(secret, "Content-Length: -1", body=event),
        post(secret, "Content-Length: x", body=event),
        post(secret, "Content-Length: 99999999999999999999999", body=event),
        post(secret, f"Content-Length: {len(event) + 10}", body=event),
        post(secret, f"Content-Length: {len(event)}", "Content-Length: 3", body=event),
        post(secret, "Content-Length: 3", "Content-Length: 3, 4", body=event),
        post(secret, chunked, "Transfer-Encoding: gzip", body=event),
        post(secret, chunked, body=b"zz\r\n" + event),
        post(secret, chunked, body=b"ffffffffffffffffffff\r\n" + event),
        post(secret, chunked, body=b"5\r\nabc"),
        post(secret, chunked, body=b"5;" + b"x" * 70_000),
        post(secret, "Header without colon", body=event),
        post(secret, "Bad\0Name: x", body=event),
        post(f"{secret}\0", body=event),
    ]


def answers(raw: bytes) -> list[int]:
    """The statuses of all answers on a connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]


def assert_unharmed(receiver: Receiver) -> None:
    assert receiver.process.poll() is None
    assert "Traceback" not in receiver.log.read_text()
    assert receiver.works()


def test_what_is_no_http_is_refused_or_cut_off(receiver: Receiver) -> None:
    _, ref = receiver.submitted()

    for sent in [*PLAIN_NONSENSE, *wrong_lengths(token(ref)), *wrong_lengths("x.y")]:
        got = answers(receiver.raw(sent))

        assert all(400 <= status < 500 or status == 501 for status in got), (sent[:200], got)

    assert receiver.kept(ref) == []
    assert_unharmed(receiver)


def test_a_request_that_is_cut_or_changed_anywhere_is_never_half_taken(receiver: Receiver) -> None:
    """The event is whole or not there, wherever a byte is missing or another."""
    chance = random.Random(SEED)
    recording, ref = receiver.submitted()
    event = completed(f"t-{recording.media_id}", SPOKEN)
    whole = post(token(ref), f"Content-Length: {len(event)}", "Content-Type: application/json", body=event)

    for _ in range(60):
        place = chance.randrange(len(whole) - 1)
        receiver.raw(whole[:place])
    assert receiver.kept(ref) == []

    for _ in range(60):
        place = chance.randrange(len(whole) - 1)
        got = answers(receiver.raw(whole[:place] + bytes([chance.randrange(256)]) + whole[place + 1 :]))
        assert all(status < 500 or status == 501 for status in got)

    assert_unharmed(receiver)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * (MOST_BYTES - 10),
        b'{"a":' * 600 + b"1" + b"}" * 600,
        b'{"eventType": "transcription.completed", "data": ' + b"[" * 40 + b"]" * 40 + b"}",
        b"9" * 4000,
        b'{"eventType": "\xff\xfe"}',
        b"\xef\xbb\xbf\xff{}",
        b'{"eventType": "transcription.completed", "data": {"transcriptionId": ' + b"9" * 4000 + b"}}",
        b'{"eventType": null, "data": null}',
        b'{"eventType": "transcription.completed", "data": {"transcriptionId": ""}}',
        b'{"eventType": "transcription.completed", "data": {"transcriptionId": "t", "status": "failed"}}',
        b"NaN",
        b'"\\ud800"',
        b"{} {}",
    ],
    ids=lambda body: body[:24],
)
def test_a_body_that_is_no_event_is_malformed(receiver: Receiver, body: bytes) -> None:
    _, ref = receiver.submitted()

    status, said = receiver.post(token(ref), body)

    assert (status, said["status"]) == (400, "malformed")
    assert said["detail"].startswith("The event ")
    assert receiver.kept(ref) == []


def test_odd_values_within_an_event_count_as_missing_and_the_last_of_two_keys_counts(receiver: Receiver) -> None:
    recording, ref = receiver.submitted()
    odd = (
        b'{"eventType": "transcription.completed", "eventType": "transcription.completed", "data": {'
        b'"transcriptionId": "t-other", "transcriptionId": "t-%s", "result": {"redacted": 1e999, "mediaId": "%s",'
        b'"transcripts": [{"text": "\\ud800 hello", "confidence": NaN, "startMs": 1%s, "endMs": -Infinity}, 7]}}}'
    ) % (recording.media_id.encode(), recording.media_id.encode(), b"0" * 400)

    assert receiver.post(token(ref), odd) == ACCEPTED

    (event,) = receiver.kept(ref)
    assert (event["transcription_id"], event["has_result"]) == (f"t-{recording.media_id}", True)


def test_the_document_is_the_one_in_the_docs(pytestconfig: pytest.Config) -> None:
    written = (pytestconfig.rootpath / "docs" / "receiver.openapi.json").read_text()

    assert json.loads(written) == DOCUMENT, "write it anew: retroscribe schema --receiver > docs/receiver.openapi.json"


#: What is read is more forgiving than the document, so that refusing what it does not name is no promise.
CHECKS = [
    conformance.not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_headers_conformance,
    conformance.response_schema_conformance,
    conformance.unsupported_method,
]


@settings(max_examples=30, deadline=None, derandomize=True)
@FOR_A_SENDER.parametrize()
def test_every_answer_to_a_valid_token_is_one_that_the_document_names(case: Any, receiver: Receiver) -> None:
    if case.path_parameters:
        case.path_parameters["token"] = token("0" * 32)
    case.validate_response(case.call(base_url=receiver.base_url), checks=CHECKS)


@settings(max_examples=30, deadline=None, derandomize=True)
@FOR_A_STRANGER.parametrize()
def test_every_answer_to_a_stranger_is_one_that_the_document_names(case: Any, receiver: Receiver) -> None:
    answered = case.call(base_url=receiver.base_url)

    case.validate_response(answered, checks=CHECKS)
    if case.path_parameters:
        assert answered.status_code != 200
