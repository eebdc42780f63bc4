"""The receiver's hard limits, on real sockets: what breaks one is answered at once, and costs the others nothing."""

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.conftest import free_port
from tests.support.desk import completed
from tests.support.eventually import eventually
from tests.support.receiver import ACCEPTED, MOST_BYTES, NO_BROKER, SPOKEN, UNAUTHORIZED, Receiver, started, token
from workers.pipeline.callbacks import CALLBACK_PATH
from workers.receiver.protocol import guarded

HEAD = f"POST {CALLBACK_PATH}/x.y HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path) -> Iterator[Receiver]:
    """One that waits a second for a request, and believes a proxy on this machine."""
    settings = {"receiver_read_seconds": 1, "receiver_trusted_proxies": "127.0.0.1"}
    with started(tmp_path_factory.mktemp("impatient"), empty_ledger, NO_BROKER, **settings) as one:
        yield one


def answer(raw: bytes) -> tuple[int, dict[str, str]]:
    """Status and body of the first answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


class TestForm:
    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    )
    def test_a_body_that_says_it_is_no_json_is_refused(self, receiver: Receiver, kind: str) -> None:
        recording, ref = receiver.submitted()

        status, said = receiver.post(token(ref), completed(f"t-{recording.media_id}", SPOKEN), Content_Type=kind)

        assert (status, said["status"], said["detail"]) == (415, "unsupported", "The body must be application/json.")
        assert receiver.kept(ref) == []

    @pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"])
    def test_every_spelling_of_json_is_taken(self, receiver: Receiver, kind: str) -> None:
        recording, ref = receiver.submitted()

        assert receiver.post(token(ref), completed(f"t-{recording.media_id}", SPOKEN), Content_Type=kind) == ACCEPTED

    @pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
    def test_a_compressed_body_is_refused_unread(self, receiver: Receiver, coding: str) -> None:
        _, ref = receiver.submitted()

        status, said = receiver.post(token(ref), b"\x1f\x8b", Content_Encoding=coding)

        assert (status, said["detail"]) == (415, "The body must not be compressed.")

    def test_too_many_headers_are_refused_and_so_is_a_head_that_is_too_large(self, receiver: Receiver) -> None:
        many = HEAD + "".join(f"X-{number}: y\r\n" for number in range(70))
        large = f"{HEAD}X-Large: {'y' * 20_000}\r\n"

        assert answer(receiver.raw(f"{many}\r\n".encode()))[1]["status"] == "too_many_headers"
        status, said = answer(receiver.raw(large.encode()))

        assert (status, said["status"]) == (431, "bad_request")

    def test_a_length_over_the_limit_is_refused_before_the_body_comes(self, receiver: Receiver) -> None:
        _, ref = receiver.submitted()
        head = f"POST {CALLBACK_PATH}/{token(ref)} HTTP/1.1\r\nHost: x\r\nContent-Length: {MOST_BYTES + 1}\r\n"
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())

            assert connection.recv(64).startswith(b"HTTP/1.1 413")

    @pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/metrics", "/api/webhooks", "/healthz/"])
    def test_there_is_nothing_else(self, receiver: Receiver, path: str) -> None:
        answered = receiver.get(path)

        assert (answered.status_code, answered.json()["status"]) == (404, "not_found")

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "NONSENSE"])
    def test_another_method_is_told_the_right_one(self, receiver: Receiver, method: str) -> None:
        answered = receiver.sender.request(method, receiver.url("x.y"))

        assert (answered.status_code, answered.headers["Allow"]) == (405, "POST")
        assert answered.json() == {"status": "method_not_allowed", "detail": "Use POST."}


@pytest.fixture(scope="module")
def slow(impatient: Receiver) -> Iterator[dict[str, socket.socket]]:
    """Callers that all begin now and never finish, by what they have sent."""
    _, ref = impatient.submitted()
    valid = f"POST {CALLBACK_PATH}/{token(ref)} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
    sent = {
        "nothing": "",
        "a word": "POST ",
        "half a head": HEAD,
        "half a body": valid + "{",
        "half a body that is answered already": f"{HEAD}Content-Length: 500\r\n\r\n",
    }
    with ExitStack() as stack:
        callers = {}
        for name, part in sent.items():
            callers[name] = stack.enter_context(socket.create_connection(("127.0.0.1", impatient.port), timeout=20))
            callers[name].sendall(part.encode())
        yield callers


class TestSlow:
    """A second is allowed for head and body; the sockets' own patience is many times that."""

    @pytest.mark.parametrize("sent", ["nothing", "a word", "half a head"])
    def test_a_head_that_does_not_end_is_cut_off(self, slow: dict[str, socket.socket], sent: str) -> None:
        assert _until_closed(slow[sent]) == b""

    def test_a_body_that_does_not_end_is_told_so(self, slow: dict[str, socket.socket]) -> None:
        told = {"status": "too_slow", "detail": "The request did not arrive in time."}

        assert answer(_until_closed(slow["half a body"])) == (408, told)

    def test_a_body_that_goes_on_after_its_answer_is_cut_off(self, slow: dict[str, socket.socket]) -> None:
        assert answer(_until_closed(slow["half a body that is answered already"])) == UNAUTHORIZED

    def test_a_head_that_drips_is_cut_off_however_steadily(self, impatient: Receiver) -> None:
        with socket.create_connection(("127.0.0.1", impatient.port), timeout=0.1) as connection:
            connection.sendall(HEAD.encode())

            assert any(_closed_at_a_drop(connection) for _ in range(200))

    def test_with_hundreds_of_connections_that_say_nothing_others_are_served(self, impatient: Receiver) -> None:
        with ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(socket.create_connection(("127.0.0.1", impatient.port), timeout=10))

            assert impatient.works()

    def test_an_idle_connection_is_used_again_after_longer_than_a_head_may_take(self, impatient: Receiver) -> None:
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        address = ("127.0.0.1", impatient.port)
        with socket.create_connection(address, timeout=20) as idle, socket.create_connection(address, 20) as silent:
            idle.sendall(request)
            assert _one_answer(idle).startswith(b"HTTP/1.1 200")
            assert _until_closed(silent) == b""
            idle.sendall(request)
            assert _one_answer(idle).startswith(b"HTTP/1.1 200")


def test_when_there_are_too_many_callers_the_one_that_says_nothing_for_longest_gives_way() -> None:
    asked, answered = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            asked.set()
            await asyncio.to_thread(answered.wait)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    port = free_port()
    options = {"http": guarded(20, 3), "lifespan": "off", "log_config": None}
    server = uvicorn.Server(uvicorn.Config(app, port=port, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, what="the server")
    with ExitStack() as stack:

        def caller(path: str = "") -> socket.socket:
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() if path else b"")
            return one

        busy = caller("/wait")
        assert asked.wait(10)
        silent, idle, late = caller(), caller("/"), caller("/")

        assert _until_closed(silent) == b""
        assert [_one_answer(one)[:12] for one in (idle, late)] == [b"HTTP/1.1 200"] * 2
        answered.set()
        assert _one_answer(busy).startswith(b"HTTP/1.1 200")
    server.should_exit = True
    thread.join()


def _one_answer(connection: socket.socket) -> bytes:
    """An answer with its body, which has a length."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(4096)
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(re.findall(rb"content-length: (\d+)", head)[0])
    while len(body) < length:
        body += connection.recv(4096)
    return head + body


def _until_closed(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def _closed_at_a_drop(connection: socket.socket) -> bool:
    """Sends one more header; whether the other side has had enough."""
    try:
        connection.sendall(b"X-Drip: y\r\n")
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_proxy_that_is_trusted_says_who_calls_and_no_other_caller_does(
    receiver: Receiver, impatient: Receiver
) -> None:
    for one in (receiver, impatient):
        one.post("x.y", b"", X_Forwarded_For="203.0.113.7")
        one.post("x.y", b"", X_Forwarded_For='"quoted\x1b[31m')

    assert "client=203.0.113.7" in impatient.log.read_text()
    assert "203.0.113.7" not in receiver.log.read_text()
    assert "quoted" not in impatient.log.read_text()
