"""What each status and each exception of httpx becomes, and that no error body can break or leak anything."""

import json
import pickle
import time
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import errors
from workers.genesys.answers import Answer, Call, error_of_answer, error_of_exception, error_of_unusable
from workers.genesys.deadline import SentTooLate
from workers.genesys.headers import RateLimitHeaders, rate_limit, retry_after_seconds
from workers.model import CallClass

SCOPES = "media:transcription:write media:media:read"
SECRET = "s3cret-token-value"
REFUSED = {400, 404, 409, 413, 422}
ALL_FAILURES = [*range(300, 309), *range(400, 452), *range(500, 512), 101, 520, 599]


def call(call_class: CallClass = CallClass.SUBMIT) -> Call:
    fields = {"mediaId": "m1", "languages": "en-US, xx-YY", "redactionPolicyId": "p1"}
    return Call(call_class, "The submission of media id m1", SCOPES, fields, (SECRET, ""))


def answer(status: int, body: object = b"", **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()}), raw)


def failure(call_class: CallClass, status: int, body: object = b"", **headers: str) -> errors.ApiError:
    error = error_of_answer(call(call_class), answer(status, body, **headers))
    assert error is not None
    return error


def expected(call_class: CallClass, status: int) -> type[errors.ApiError]:
    if call_class is CallClass.TOKEN and status in (400, 401):
        return errors.CredentialsRejected
    if status in (401, 403, 429):
        return {401: errors.TokenRejected, 403: errors.ScopeMissing, 429: errors.ApiRateLimited}[status]
    if call_class is CallClass.SUBMIT:
        return errors.RequestRefused if status in REFUSED else errors.OutcomeUnknown
    if call_class is CallClass.MEDIA and status in (400, 404, 410, 422):
        return errors.MediaNotFound
    if call_class is CallClass.STATUS and status in (404, 405):
        return errors.StatusUnavailable
    return errors.ApiUnavailable


@pytest.mark.parametrize("call_class", CallClass)
@pytest.mark.parametrize("status", ALL_FAILURES)
def test_each_status_becomes_the_error_of_its_call(call_class: CallClass, status: int) -> None:
    error = failure(call_class, status)

    assert type(error) is expected(call_class, status)
    assert error.status == status
    assert str(status) in str(error)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_success_is_no_error(status: int) -> None:
    assert error_of_answer(call(), answer(status)) is None


NOTHING_SENT = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"),
    httpx.PoolTimeout("full"),
    httpx.ProxyError("407 Proxy Authentication Required"),
    httpx.UnsupportedProtocol("ftp"),
    httpx.LocalProtocolError(f"Illegal header value b'Bearer {SECRET}'"),
    httpx.InvalidURL("bad"),
    SentTooLate("late"),
]
PERHAPS_SENT = [
    httpx.ReadTimeout("slow"),
    httpx.WriteTimeout("slow"),
    httpx.ReadError(""),
    httpx.WriteError(""),
    httpx.CloseError(""),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    httpx.DecodingError("gzip"),
    httpx.TooManyRedirects("many"),
    httpx.TransportError("something new"),
]


@pytest.mark.parametrize("call_class", CallClass)
@pytest.mark.parametrize("error", NOTHING_SENT, ids=lambda error: type(error).__name__)
def test_an_exception_before_anything_was_sent_is_unreachable(call_class: CallClass, error: httpx.HTTPError) -> None:
    found = error_of_exception(call(call_class), error)

    assert type(found) is errors.ApiUnreachable
    assert found.status is None
    assert SECRET not in str(found)


@pytest.mark.parametrize("error", PERHAPS_SENT, ids=lambda error: type(error).__name__)
def test_an_exception_after_the_submission_may_have_left_is_unknown(error: httpx.HTTPError) -> None:
    assert type(error_of_exception(call(), error)) is errors.OutcomeUnknown


@pytest.mark.parametrize("call_class", [CallClass.MEDIA, CallClass.STATUS, CallClass.TOKEN])
@pytest.mark.parametrize("error", PERHAPS_SENT, ids=lambda error: type(error).__name__)
def test_an_exception_on_a_safe_call_is_unavailable(call_class: CallClass, error: httpx.HTTPError) -> None:
    assert type(error_of_exception(call(call_class), error)) is errors.ApiUnavailable


def test_every_exception_class_of_httpx_is_in_a_table() -> None:
    def leaves(kind: type) -> set[type]:
        return {kind}.union(*(leaves(child) for child in kind.__subclasses__()))

    tested = {type(error) for error in NOTHING_SENT + PERHAPS_SENT}
    abstract = {httpx.RequestError, httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError}
    assert leaves(httpx.RequestError) - abstract <= tested


def test_a_refusal_keeps_code_message_and_correlation_id_and_names_the_field_with_its_value() -> None:
    body = {"message": "language xx-YY is not supported", "code": "bad.request", "status": 400, "details": []}

    error = failure(CallClass.SUBMIT, 400, body, ININ_Correlation_Id="corr-1")

    assert (error.status, error.code, error.correlation_id) == (400, "bad.request", "corr-1")
    assert "languages 'en-US, xx-YY'" in str(error)
    assert "language xx-YY is not supported" in str(error)
    assert "corr-1" in str(error)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": "Invalid value", "details": [{"fieldName": "redactionPolicyId"}]}, "redactionPolicyId 'p1'"),
        ({"message": "Invalid value", "errors": [{"field": "languages[1]"}]}, "languages[1]"),
        ({"message": "the webhook uri must be https"}, "webhooks"),
        ({"message": "no such redaction policy"}, "redactionPolicyId 'p1'"),
        ({"message": "bad", "code": "invalid.mediaId"}, "mediaId 'm1'"),
    ],
)
def test_a_refusal_names_the_field_that_the_body_is_about(body: object, field: str) -> None:
    assert f"for its {field}" in str(failure(CallClass.SUBMIT, 400, body))


def test_a_refusal_about_no_field_names_none() -> None:
    assert "for its" not in str(failure(CallClass.SUBMIT, 409, {"message": "conflict"}))


def test_the_correlation_id_falls_back_to_the_context_id() -> None:
    assert failure(CallClass.SUBMIT, 400, {"message": "no", "contextId": "ctx-9"}).correlation_id == "ctx-9"


@pytest.mark.parametrize(
    ("call_class", "scopes", "named"),
    [
        (CallClass.SUBMIT, SCOPES, "scope media:transcription:write:"),
        (CallClass.MEDIA, SCOPES, "scope media:media:read:"),
        (CallClass.STATUS, SCOPES, "scope media:transcription:write:"),
        (CallClass.MEDIA, "media:transcription:write", "media:media:read, which GENESYS_SCOPES does not list"),
    ],
)
def test_403_names_the_missing_scope_and_where_to_grant_it(call_class: CallClass, scopes: str, named: str) -> None:
    error = error_of_answer(Call(call_class, "The call", scopes), answer(403, {"message": "Missing permission"}))

    assert type(error) is errors.ScopeMissing
    assert named in str(error)
    assert "Admin > Integrations > OAuth" in str(error)
    assert "Missing permission" in str(error)


def test_wrong_credentials_name_both_settings_and_the_next_step() -> None:
    body = {"error": "invalid_client", "description": f"client not found: {SECRET}"}

    error = failure(CallClass.TOKEN, 401, body)

    assert "GENESYS_CLIENT_ID" in str(error)
    assert "GENESYS_CLIENT_SECRET" in str(error)
    assert "retroscribe doctor" in str(error)
    assert error.code == "invalid_client"
    assert SECRET not in str(error)


def test_429_knows_its_delay_and_burns_no_attempt() -> None:
    error = failure(CallClass.SUBMIT, 429, {"code": "too.many.requests.retry.after"}, Retry_After="42")

    assert isinstance(error, errors.ApiRateLimited)
    assert (error.retry_after_seconds, error.burns_attempt) == (42.0, False)


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_an_error_survives_the_way_between_processes(status: int) -> None:
    error = failure(CallClass.SUBMIT, status, {"message": "no", "code": "c"}, Retry_After="3")

    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)  # noqa: S301 our own


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("42", 42.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("1_0", None),
        ("42, 42", None),
        ("٤٢", None),
        ("9" * 400, None),
        ("soon", None),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after_seconds(httpx.Headers({"Retry-After": value.encode()})) == seconds


def test_a_missing_retry_after_is_none() -> None:
    assert retry_after_seconds(httpx.Headers()) is None


def test_retry_after_as_a_date_counts_from_the_servers_date() -> None:
    headers = httpx.Headers({"Retry-After": formatdate(1000030, usegmt=True), "Date": formatdate(1000000, usegmt=True)})

    assert retry_after_seconds(headers) == 30.0


def test_retry_after_as_a_date_counts_from_now_without_a_servers_date() -> None:
    found = retry_after_seconds(httpx.Headers({"Retry-After": formatdate(time.time() + 60, usegmt=True)}))

    assert found is not None
    assert 50 < found <= 60


def test_retry_after_as_a_date_in_the_past_counts_as_missing() -> None:
    assert retry_after_seconds(httpx.Headers({"Retry-After": formatdate(0, usegmt=True)})) is None


@given(st.text(), st.text())
def test_retry_after_is_never_negative_and_never_crashes(value: str, date: str) -> None:
    found = retry_after_seconds({"Retry-After": value, "Date": date})

    assert found is None or 0 <= found < float("inf")


@given(st.floats(0, 1e9).map(lambda number: f"{number:f}"))
def test_retry_after_is_never_shortened(value: str) -> None:
    assert retry_after_seconds({"Retry-After": value}) == float(value)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (("3", "10", "4"), RateLimitHeaders(3, 10, 4)),
        (("3", "10", "x"), None),
        (("3", "", "4"), None),
        (("nan", "10", "4"), None),
    ],
)
def test_rate_limit_headers_count_only_together(headers: tuple[str, ...], told: RateLimitHeaders | None) -> None:
    names = ("inin-ratelimit-count", "inin-ratelimit-allowed", "inin-ratelimit-reset")

    assert rate_limit(httpx.Headers(list(zip(names, headers, strict=True)))) == told


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
error_bodies = st.dictionaries(
    st.sampled_from(["message", "code", "contextId", "details", "errors", "error", "description"]), json_values
).map(lambda body: json.dumps(body).encode())


@given(st.binary(max_size=400) | error_bodies, st.sampled_from(ALL_FAILURES), st.sampled_from(CallClass))
def test_no_error_body_breaks_the_map(body: bytes, status: int, call_class: CallClass) -> None:
    error = failure(call_class, status, body)

    assert type(error) is expected(call_class, status)
    str(error).encode()
    assert str(error).isprintable()


@given(st.text(max_size=400), st.text(max_size=400), st.sampled_from(["message", "code", "error", "contextId"]))
def test_a_secret_in_an_error_body_never_shows(before: str, after: str, key: str) -> None:
    error = failure(CallClass.SUBMIT, 400, {key: before + SECRET + after})

    assert SECRET not in repr(error)


def test_the_path_of_a_url_in_an_error_body_never_shows() -> None:
    error = failure(CallClass.SUBMIT, 400, {"message": "bad uri https://ours.example/api/webhooks/x/ref.mac given"})

    assert "https://ours.example/*** given" in str(error)
    assert "ref.mac" not in str(error)


def test_a_long_message_is_cut_at_300_characters() -> None:
    assert str(failure(CallClass.SUBMIT, 400, {"message": "z" * 5000})).count("z") == 300


@pytest.mark.parametrize("body", [b"<html><body>z</body></html>", b"\xff\xfez", b"z\0", b"[" * 100_000, b'{"z":'])
def test_a_body_that_is_no_sentence_is_not_quoted(body: bytes) -> None:
    assert "z" not in str(failure(CallClass.SUBMIT, 502, body)).replace("m1", "")


def test_a_plain_sentence_is_quoted() -> None:
    assert "mediaId is malformed" in str(failure(CallClass.SUBMIT, 400, b"mediaId is malformed\n"))


@pytest.mark.parametrize(
    ("call_class", "kind"), [(CallClass.SUBMIT, errors.OutcomeUnknown), (CallClass.MEDIA, errors.ApiUnavailable)]
)
def test_an_answer_without_sense_keeps_its_status_and_correlation_id(
    call_class: CallClass, kind: type[errors.ApiError]
) -> None:
    error = error_of_unusable(call(call_class), "was odd", answer(202, b"", ININ_Correlation_Id="corr-2"))

    assert type(error) is kind
    assert (error.status, error.correlation_id) == (202, "corr-2")
