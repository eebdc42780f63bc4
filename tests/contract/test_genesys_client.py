"""The API client against real sockets: what it sends, and what it makes of every way to fail."""

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.support.scripted_server import Reply, ScriptedServer, reply
from workers import errors
from workers.genesys import client as client_module
from workers.genesys.client import Accepted, GenesysClient
from workers.genesys.headers import RateLimitHeaders
from workers.genesys.tokens import AccessToken
from workers.model import CallClass, Media, TranscriptionRequest

TOKEN = AccessToken("the-token")
SECRET = "the client+secret"
CALLBACK = "https://ours.example/api/webhooks/genesys-transcription/ref.mac"
REQUEST = TranscriptionRequest("m1", ("en-US", "es-ES"), "p1")
ACCEPTED = reply(202, {"transcriptionId": "t1"}, ININ_Correlation_Id="corr-1")

MakeClient = Callable[..., GenesysClient]


@pytest.fixture
def make_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeClient]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    made: list[GenesysClient] = []

    def make(base_url: str, **options: Any) -> GenesysClient:
        settings = {
            "client_id": "the-id",
            "client_secret": SECRET,
            "scopes": "media:transcription:write media:media:read",
        }
        made.append(GenesysClient(base_url=base_url, token_url=f"{base_url}/token", **(settings | options)))
        return made[-1]

    yield make
    for client in made:
        client.close()


def submit(client: GenesysClient, **options: Any) -> Accepted:
    return client.submit(TOKEN, REQUEST, callback_uri=CALLBACK, idempotency_key="ref-1", **options)


def cut(part: bytes = b"") -> Reply:
    """Sends a part and closes the connection."""
    return lambda stream: stream.sendall(part)


def trickle(server: ScriptedServer, head: bytes = b"") -> Callable[[socket.socket], None]:
    """Sends a byte now and then, for ever: each read is quick, the whole never ends."""

    def send(stream: socket.socket) -> None:
        stream.sendall(head)
        while not server.stopped.wait(0.02):
            stream.sendall(b"x")

    return send


def test_a_submission_is_sent_as_the_contract_has_it_and_its_id_is_read(make_client: MakeClient) -> None:
    with ScriptedServer(ACCEPTED) as server:
        accepted = submit(make_client(server.url))

    head, body = server.requests[0].split(b"\r\n\r\n", 1)
    headers = {line.split(b": ")[0].lower(): line.split(b": ")[1] for line in head.split(b"\r\n")[1:]}
    assert accepted == Accepted("t1", 202, "corr-1")
    assert head.startswith(b"POST /api/v2/media/transcriptions HTTP/1.1\r\n")
    assert headers[b"authorization"] == b"Bearer the-token"
    assert headers[b"idempotency-key"] == b"ref-1"
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"user-agent"].startswith(b"retroscribe/0")
    assert json.loads(body)["webhooks"][0]["uri"] == CALLBACK


def test_a_repeated_submission_is_the_same_byte_for_byte(make_client: MakeClient) -> None:
    with ScriptedServer(ACCEPTED) as server:
        client = make_client(server.url)
        submit(client)
        submit(client)

    assert server.requests[0] == server.requests[1]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("media_id", "path"),
    [("a/b?c#d%2F e", b"a%2Fb%3Fc%23d%252F%20e"), ("..", b"%2E%2E"), ("ü.wav", b"%C3%BC.wav")],
)
def test_a_media_id_is_one_segment_of_the_path(make_client: MakeClient, media_id: str, path: bytes) -> None:
    with ScriptedServer(reply(200, {"format": "wav", "codec": "PCM", "duration": "9.5"})) as server:
        media = make_client(server.url).get_media(TOKEN, media_id)

    assert server.requests[0].startswith(b"GET /api/v2/media/" + path + b" HTTP/1.1\r\n")
    assert media == Media(media_id, "wav", "PCM", 9.5)


@pytest.mark.parametrize(
    "answer",
    [
        cut(),
        cut(b"HTTP/1.1 202 Acc"),
        cut(b'HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{"transcriptionId": "t1"}'),
        cut(b"nonsense\r\n\r\n"),
        cut(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        reply(302, b"", Location="/elsewhere"),
        reply(308, b"", Location="/elsewhere"),
        reply(202, {}),
        reply(202, {"transcriptionId": " "}),
        reply(202, {"transcriptionId": {}}),
        reply(202, b"accepted"),
        reply(204),
        reply(202, b"no gzip", Content_Encoding="gzip"),
        reply(408),
        reply(425),
        reply(500, b"<html>"),
        reply(503, b"", Retry_After="3"),
    ],
)
def test_a_submission_without_a_clear_answer_is_unknown_and_never_repeated(
    make_client: MakeClient, answer: Reply
) -> None:
    with ScriptedServer(answer) as server, pytest.raises(errors.OutcomeUnknown, match="may have been accepted"):
        submit(make_client(server.url))

    assert len(server.requests) == 1


def test_a_kept_connection_that_breaks_under_a_submission_leaves_it_unknown(make_client: MakeClient) -> None:
    with ScriptedServer(ACCEPTED, cut()) as server:
        client = make_client(server.url)
        submit(client)
        with pytest.raises(errors.OutcomeUnknown):
            submit(client)

    assert len(server.requests) == 2


def test_a_429_whose_body_is_cut_is_still_a_429(make_client: MakeClient) -> None:
    answer = b"HTTP/1.1 429 Too Many\r\nRetry-After: 42\r\nContent-Length: 50\r\n\r\n{"
    with ScriptedServer(cut(answer)) as server, pytest.raises(errors.ApiRateLimited) as caught:
        submit(make_client(server.url))

    assert caught.value.retry_after_seconds == 42


@pytest.mark.parametrize("head", [b"HTTP/1.1 202 Accepted\r\nX-Slow: ", b"HTTP/1.1 202 Accepted\r\n\r\n"])
def test_an_answer_that_trickles_ends_with_the_whole_call_limit(make_client: MakeClient, head: bytes) -> None:
    with ScriptedServer(b"") as server:
        server.replies = [trickle(server, head)]
        client = make_client(server.url, whole_call_seconds=0.3)
        began = time.monotonic()

        with pytest.raises(errors.OutcomeUnknown, match="ReadTimeout"):
            submit(client)

    assert time.monotonic() - began < 5


def test_a_safe_call_that_trickles_is_unavailable(make_client: MakeClient) -> None:
    with ScriptedServer(b"") as server:
        server.replies = [trickle(server, b"HTTP/1.1 200 OK\r\n\r\n")]

        with pytest.raises(errors.ApiUnavailable, match="ReadTimeout"):
            make_client(server.url, whole_call_seconds=0.3).get_media(TOKEN, "m1")


def test_a_call_after_one_that_ran_out_has_its_own_time(make_client: MakeClient) -> None:
    with ScriptedServer(b"") as server:
        server.replies = [trickle(server), ACCEPTED]
        client = make_client(server.url, whole_call_seconds=0.3)
        with pytest.raises(errors.OutcomeUnknown):
            submit(client)

        assert submit(client).transcription_id == "t1"


def test_an_answer_without_end_is_cut(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER_BYTES", 1000)
    with ScriptedServer(reply(200, b"x" * 2000)) as server, pytest.raises(errors.ApiUnavailable, match="1000 bytes"):
        make_client(server.url).get_media(TOKEN, "m1")


def test_nothing_listens_is_unreachable(make_client: MakeClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(errors.ApiUnreachable, match=r"refused.*GENESYS_BASE_URL"):
        submit(make_client(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_a_host_without_address_is_unreachable(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    client = make_client("http://api.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", fail)

    with pytest.raises(errors.ApiUnreachable, match="can't be resolved"):
        submit(client)


def test_a_submission_that_would_leave_too_late_is_not_sent(make_client: MakeClient) -> None:
    with ScriptedServer(ACCEPTED) as server:
        client = make_client(server.url)
        with pytest.raises(errors.ApiUnreachable, match="too late"):
            submit(client, send_before=time.monotonic())
        submit(client)

    assert len(server.requests) == 1


def test_a_submission_is_held_back_until_its_moment(make_client: MakeClient) -> None:
    with ScriptedServer(ACCEPTED) as server:
        moment = time.monotonic() + 0.3
        submit(make_client(server.url), not_before=moment)

        assert len(server.requests) == 1
        assert time.monotonic() >= moment


def test_a_submission_is_not_held_back_beyond_the_moment_from_which_it_may_not_leave(make_client: MakeClient) -> None:
    with ScriptedServer(ACCEPTED) as server:
        soon = time.monotonic() + 0.1
        with pytest.raises(errors.ApiUnreachable, match="too late"):
            submit(make_client(server.url), send_before=soon, not_before=soon + 3600)

    assert not server.requests


def test_rate_limit_headers_of_successes_and_failures_are_passed_on(make_client: MakeClient) -> None:
    told: list[tuple[CallClass, RateLimitHeaders]] = []
    limits = {"inin_ratelimit_count": "3", "inin_ratelimit_allowed": "10", "inin_ratelimit_reset": "4"}
    odd = limits | {"inin_ratelimit_reset": "soon"}
    replies = [reply(200, {}, **limits), reply(429, {}, **limits), reply(200, {}, **odd), reply(200, {})]
    with ScriptedServer(*replies) as server:
        client = make_client(server.url, on_ratelimit=lambda *headers: told.append(headers))
        client.get_media(TOKEN, "m1")
        with pytest.raises(errors.ApiRateLimited):
            submit(client)
        client.get_media(TOKEN, "m1")
        client.get_media(TOKEN, "m1")

    assert told == [(CallClass.MEDIA, RateLimitHeaders(3, 10, 4)), (CallClass.SUBMIT, RateLimitHeaders(3, 10, 4))]


def test_an_acceptance_is_not_lost_when_the_listener_fails(make_client: MakeClient) -> None:
    limits = {"inin_ratelimit_count": "3", "inin_ratelimit_allowed": "10", "inin_ratelimit_reset": "4"}
    with ScriptedServer(reply(202, {"transcriptionId": "t1"}, **limits)) as server:
        accepted = submit(make_client(server.url, on_ratelimit=lambda *_: 1 / 0))

    assert accepted.transcription_id == "t1"


def test_a_completed_transcription_is_read_with_its_payload(make_client: MakeClient) -> None:
    body = {"transcriptionId": "t/1", "status": "completed", "result": {"transcripts": [{"text": "Hi"}]}}
    with ScriptedServer(reply(200, body)) as server:
        status = make_client(server.url).get_transcription(TOKEN, "t/1")

    assert server.requests[0].startswith(b"GET /api/v2/media/transcriptions/t%2F1 HTTP/1.1\r\n")
    assert (status.status, json.loads(status.payload)) == ("completed", body)
    assert status.transcript is not None
    assert status.transcript.text == "Hi"


@pytest.mark.parametrize("status", [404, 405])
def test_no_status_for_a_transcription_keeps_the_http_status(make_client: MakeClient, status: int) -> None:
    with ScriptedServer(reply(status)) as server, pytest.raises(errors.StatusUnavailable) as caught:
        make_client(server.url).get_transcription(TOKEN, "t1")

    assert caught.value.status == status


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"transcriptionId": "other", "status": "completed"}'])
def test_a_status_answer_without_sense_is_unavailable(make_client: MakeClient, body: bytes) -> None:
    with ScriptedServer(reply(200, body)) as server, pytest.raises(errors.ApiUnavailable):
        make_client(server.url).get_transcription(TOKEN, "t1")


def test_a_token_is_fetched_with_a_form(make_client: MakeClient) -> None:
    with ScriptedServer(reply(200, {"access_token": "fresh", "expires_in": 3600, "token_type": "bearer"})) as server:
        assert make_client(server.url).fetch_token() == ("fresh", 3600.0)

    head, body = server.requests[0].split(b"\r\n\r\n", 1)
    assert head.startswith(b"POST /token HTTP/1.1\r\n")
    assert b"authorization" not in head.lower()
    assert parse_qs(body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["the-id"],
        "client_secret": [SECRET],
        "scope": ["media:transcription:write media:media:read"],
    }


@pytest.mark.parametrize("lifetime", [None, "soon", 0, -5, {}])
def test_a_token_of_unknown_lifetime_is_a_short_one(make_client: MakeClient, lifetime: object) -> None:
    with ScriptedServer(reply(200, {"access_token": "fresh", "expires_in": lifetime})) as server:
        assert make_client(server.url).fetch_token() == ("fresh", 300.0)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(401, {"error": "invalid_client", "description": SECRET}), errors.CredentialsRejected),
        (reply(400, {"error": "invalid_client", "description": "the+client%2Bsecret"}), errors.CredentialsRejected),
        (reply(429, b"", Retry_After="7"), errors.ApiRateLimited),
        (reply(500, SECRET.encode()), errors.ApiUnavailable),
        (reply(302, b"", Location="/login"), errors.ApiUnavailable),
        (reply(200, b"<html>"), errors.ApiUnavailable),
        (reply(200, {"access_token": "two words"}), errors.ApiUnavailable),
        (reply(200, {"access_token": "line\r\nbreak"}), errors.ApiUnavailable),
        (reply(200, {"expires_in": 3600}), errors.ApiUnavailable),
        (cut(), errors.ApiUnavailable),
    ],
)
def test_a_token_that_is_not_given_says_why_without_the_secret(
    make_client: MakeClient, answer: Reply, kind: type[errors.ApiError]
) -> None:
    with ScriptedServer(answer) as server, pytest.raises(kind) as caught:
        make_client(server.url).fetch_token()

    assert type(caught.value) is kind
    assert SECRET not in repr(caught.value)
    assert "client%2Bsecret" not in repr(caught.value)


def test_a_refusal_that_echoes_token_and_callback_shows_neither(make_client: MakeClient) -> None:
    body = {"message": f"bad webhook {CALLBACK}, /hook/ref.mac, Bearer {TOKEN.value}"}
    with ScriptedServer(reply(400, body)) as server, pytest.raises(errors.RequestRefused, match="webhooks") as caught:
        submit(make_client(server.url))

    assert "ref.mac" not in repr(caught.value)
    assert TOKEN.value not in repr(caught.value)


def test_a_proxy_of_the_environment_is_used(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(ACCEPTED) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        submit(make_client("http://api.invalid"))

    assert proxy.requests[0].startswith(b"POST http://api.invalid/api/v2/media/transcriptions HTTP/1.1\r\n")


def test_a_proxy_that_refuses_to_connect_has_sent_nothing(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(reply(407)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(errors.ApiUnreachable, match="407"):
            submit(make_client("https://api.invalid"))

    assert proxy.requests[0].startswith(b"CONNECT api.invalid:443")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed one for localhost, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    path, key = tmp_path / "localhost.pem", tmp_path / "key.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run(
        ["openssl", "req", "-x509", *options, "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", path],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + key.read_text())
    return path


def test_over_tls_calls_share_a_connection_and_keep_to_the_whole_call_limit(
    make_client: MakeClient, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with ScriptedServer(ACCEPTED, ACCEPTED, ACCEPTED, tls=context) as server:
        client = make_client(server.url, whole_call_seconds=1)
        submit(client)
        submit(client)
        assert server.connections == 1
        server.replies = [trickle(server, b"HTTP/1.1 202 Accepted\r\nX-Slow: ")]

        with pytest.raises(errors.OutcomeUnknown, match="ReadTimeout"):
            submit(client)


def test_a_certificate_that_nobody_vouches_for_is_unreachable(make_client: MakeClient, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ScriptedServer(ACCEPTED, tls=context) as server, pytest.raises(errors.ApiUnreachable, match="CERTIFICATE"):
        submit(make_client(server.url))

    assert server.requests == []
