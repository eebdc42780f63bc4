"""How events, statuses and media are read, whatever their fields hold."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import InputError
from workers.genesys.events import parse_event, stored_event
from workers.genesys.schemas import MediaBody, read_status, submit_payload
from workers.model import Media, Segment, TranscriptionRequest, TranscriptionStatus

RESULT: dict[str, Any] = {
    "mediaId": "m1",
    "redacted": True,
    "transcripts": [
        {
            "text": "Hello",
            "confidence": 0.93,
            "speaker": "agent",
            "startMs": 1500,
            "endMs": "2500",
            "language": "en-US",
        },
        {"text": "Hi"},
    ],
}
DATA: dict[str, Any] = {
    "transcriptionId": "t1",
    "status": "completed",
    "startedAt": "2026-11-22T10:00:00.000Z",
    "completedAt": "2026-11-22T11:01:30.500+01:00",
    "result": RESULT,
}


def event(event_type: object = "transcription.completed", **changes: Any) -> bytes:
    data = {key: value for key, value in (DATA | changes).items() if value is not ...}
    return json.dumps({"eventType": event_type, "data": data, "version": 9}).encode()


def test_a_completed_event_holds_the_whole_transcript() -> None:
    found = parse_event(event())

    assert (found.known, found.status, found.transcription_id, found.media_id) == (True, "completed", "t1", "m1")
    assert found.transcript is not None
    assert found.transcript.segments == (
        Segment("Hello", 0.93, "agent", 1.5, 2.5, "en-US"),
        Segment("Hi"),
    )
    assert found.transcript.redacted is True
    assert found.transcript.started_at == datetime(2026, 11, 22, 10, tzinfo=UTC).timestamp()
    assert found.transcript.latency_seconds == 90.5


def test_a_completed_event_with_missing_fields_keeps_what_came() -> None:
    transcript = parse_event(event(startedAt=..., completedAt=None, result={"transcripts": [{"text": "a"}]})).transcript

    assert transcript is not None
    assert (transcript.text, transcript.started_at, transcript.completed_at) == ("a", None, None)
    assert (transcript.media_id, transcript.redacted, transcript.average_confidence) == (None, None, None)


@pytest.mark.parametrize("result", [..., None, {}, {"transcripts": None}, {"transcripts": "soon"}, "none", []])
def test_a_completed_event_without_transcripts_has_no_transcript(result: object) -> None:
    found = parse_event(event(result=result))

    assert (found.status, found.transcript) == ("completed", None)


def test_a_completed_event_with_an_empty_list_has_a_transcript_without_segments() -> None:
    transcript = parse_event(event(result={"transcripts": []})).transcript

    assert transcript is not None
    assert transcript.segments == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"message": "codec broken"}, "codec broken"),
        ({"error": {"message": "too noisy", "code": "x"}}, "too noisy"),
        ({"errors": [{"code": "audio.empty"}]}, "audio.empty"),
        ({"failureReason": "call https://h.example/ref.mac failed"}, "call https://h.example/*** failed"),
        ({"message": "z" * 999}, "z" * 300),
        ({}, None),
    ],
)
def test_a_failed_event_says_why_when_they_do(changes: dict[str, Any], message: str | None) -> None:
    found = parse_event(event("transcription.failed", status="failed", result=..., **changes))

    assert (found.status, found.transcript, found.message) == ("failed", None, message)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"eventType": "transcription.progress", "data": {"transcriptionId": "t1"}}',
        b'{"eventType": "ping"}',
        b'{"eventType": "ping", "data": []}',
    ],
)
def test_an_unknown_event_type_is_no_error(raw: bytes) -> None:
    assert parse_event(raw).known is False


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "nested"),
        (b"[]", "list"),
        (b"{}", "eventType"),
        (b'{"eventType": {}}', "eventType"),
        (b'{"eventType": "transcription.completed"}', "data"),
        (b'{"eventType": "transcription.completed", "data": []}', "data"),
        (b'{"eventType": "transcription.completed", "data": {}}', "data.transcriptionId"),
        (b'{"eventType": "transcription.failed", "data": {"transcriptionId": " "}}', "data.transcriptionId"),
        (b'{"eventType": "transcription.failed", "data": {"transcriptionId": "t", "status": "completed"}}', "status"),
    ],
)
def test_a_malformed_event_is_refused_with_one_sentence_that_names_the_field(raw: bytes, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        parse_event(raw)

    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "confidence", ["NaN", "Infinity", "1e999", "-0.1", "93", "true", "{}", '"high"', "9" * 4000, '"' + "9" * 5000 + '"']
)
def test_a_confidence_that_is_none_counts_as_missing(confidence: str) -> None:
    raw = event(result={"transcripts": [{"text": "a", "confidence": "HERE"}]}).replace(b'"HERE"', confidence.encode())

    transcript = parse_event(raw).transcript

    assert transcript is not None
    assert transcript.segments == (Segment("a"),)


@pytest.mark.parametrize("moment", [7, "", "yesterday", "2026-13-01T00:00:00Z", [], "9" * 5000])
def test_a_time_that_is_none_counts_as_missing(moment: object) -> None:
    transcript = parse_event(event(startedAt=moment)).transcript

    assert transcript is not None
    assert transcript.started_at is None


def test_a_time_without_an_offset_is_utc() -> None:
    transcript = parse_event(event(startedAt="2026-11-22T10:00:00")).transcript

    assert transcript is not None
    assert transcript.started_at == datetime(2026, 11, 22, 10, tzinfo=UTC).timestamp()


def test_text_that_no_database_stores_is_replaced_and_emoji_survive() -> None:
    raw = event(result={"transcripts": [{"text": "HERE"}]}).replace(b"HERE", rb"\ud83d\ude00 \ud800 \u0000")

    transcript = parse_event(raw).transcript

    assert transcript is not None
    assert transcript.text == "\N{GRINNING FACE} \ufffd \ufffd"


def test_of_duplicate_keys_the_last_counts() -> None:
    raw = b'{"eventType":"transcription.completed","data":{"transcriptionId":"a","transcriptionId":"b"}}'

    assert parse_event(raw).transcription_id == "b"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
segments = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["text", "confidence", "speaker", "startMs", "endMs", "language"], values)
)
results = st.fixed_dictionaries(
    {}, optional={"mediaId": values, "redacted": values, "transcripts": st.lists(segments, max_size=3) | values}
)
bodies = st.fixed_dictionaries(
    {"transcriptionId": st.just("t1") | values},
    optional={"status": values, "startedAt": values, "completedAt": values, "result": results | values, "x": values},
)


@given(st.sampled_from(["transcription.completed", "transcription.failed", "other"]), bodies)
def test_whatever_the_fields_hold_an_event_is_read_or_refused(event_type: str, data: dict[str, Any]) -> None:
    try:
        found = parse_event(json.dumps({"eventType": event_type, "data": data}).encode())
    except InputError as error:
        str(error).encode()
        return
    repr(found).encode()
    if found.transcript:
        found.transcript.text.encode()


@given(st.binary())
def test_whatever_the_bytes_an_event_is_read_or_refused(raw: bytes) -> None:
    try:
        parse_event(raw)
    except InputError:
        return


def test_a_polled_completion_reads_like_its_webhook() -> None:
    status = read_status(json.dumps(DATA).encode(), "t1")

    assert parse_event(stored_event(status)) == parse_event(event())


def test_a_polled_completion_that_leaves_out_its_id_is_stored_with_it() -> None:
    status = read_status(json.dumps(DATA | {"transcriptionId": None, "status": "COMPLETED"}).encode(), "t1")

    assert parse_event(stored_event(status)) == parse_event(event())


def test_a_polled_failure_reads_like_its_webhook() -> None:
    status = read_status(b'{"status": "failed", "message": "too noisy"}', "t1")

    assert status.message == "too noisy"
    assert parse_event(stored_event(status)).message == "too noisy"


def test_a_status_that_has_not_ended_has_no_event() -> None:
    with pytest.raises(ValueError, match="processing"):
        stored_event(TranscriptionStatus("t1", "processing", b"{}"))


@pytest.mark.parametrize(
    ("payload", "named"),
    [(b"<html>", "not JSON"), (b"[]", "list"), (b"{}", "status"), (b'{"transcriptionId": "t2"}', "another")],
)
def test_a_status_that_proves_nothing_is_refused(payload: bytes, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_status(payload, "t1")


@pytest.mark.parametrize("status", ["queued", "processing", "Paused"])
def test_a_status_in_progress_has_no_transcript(status: str) -> None:
    found = read_status(json.dumps(DATA | {"status": status}).encode(), "t1")

    assert (found.status, found.transcript) == (status.lower(), None)


@pytest.mark.parametrize(
    ("body", "media"),
    [
        ({"id": "m1", "format": "wav", "codec": "PCM", "duration": 12.5}, Media("m1", "wav", "PCM", 12.5)),
        ({"format": "wav", "codec": "pcm", "duration": "12.5", "new": 1}, Media("m1", "wav", "pcm", 12.5)),
        ({"duration": -3}, Media("m1", None, None, -3.0)),
        ({"format": " ", "codec": None, "duration": "long"}, Media("m1", None, None, None)),
        ({"duration": True}, Media("m1", None, None, None)),
        ({"duration": float("nan")}, Media("m1", None, None, None)),
        ({"duration": 10**400}, Media("m1", None, None, None)),
        ({}, Media("m1", None, None, None)),
    ],
)
def test_media_keeps_what_came_and_the_rest_is_missing(body: dict[str, Any], media: Media) -> None:
    assert MediaBody.model_validate(body).to_media("m1") == media


def test_a_submission_leaves_out_what_is_unset() -> None:
    assert json.loads(submit_payload(TranscriptionRequest("m1", ("de-DE",), None, False), None)) == {
        "mediaId": "m1",
        "languages": ["de-DE"],
        "settings": {"enableSpeakerIdentification": False},
    }


def test_a_submission_holds_all_that_is_set() -> None:
    request = TranscriptionRequest("m1", ("en-US", "es-ES"), "p1")

    assert json.loads(submit_payload(request, "https://ours.example/hook/ref.mac")) == {
        "mediaId": "m1",
        "languages": ["en-US", "es-ES"],
        "redactionPolicyId": "p1",
        "webhooks": [
            {
                "uri": "https://ours.example/hook/ref.mac",
                "events": ["transcription.completed", "transcription.failed"],
            }
        ],
        "settings": {"enableSpeakerIdentification": True},
    }
