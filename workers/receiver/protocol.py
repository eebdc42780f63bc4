"""HTTP on one connection: uvicorn's, with an end to every wait for the caller and to the number of callers."""

import json
import sys
from asyncio import BaseTransport, TimerHandle, Transport
from enum import StrEnum
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from workers.metrics import CONNECTIONS
from workers.receiver.entrance import address

log = structlog.get_logger(__name__)

#: A request's line and headers together; what we are sent has less than one kilobyte.
HEAD_BYTES: Final = 16 * 1024
HEAD_SECONDS: Final = 10.0
#: How long the rest of a body is read away that was answered before its end, so that the caller sees the answer.
REST_SECONDS: Final = 5.0


class _Wait(StrEnum):
    HEAD = "head"
    BODY = "body"
    REST = "rest"


class GuardedProtocol(H11Protocol):
    """A connection whose caller has so long for a head and so long for a body, down to the last byte.

    When there are too many, the one that has made no request for longest gives way. To be used through `guarded`.
    """

    seconds: ClassVar[dict[_Wait, float]]
    most: ClassVar[int]
    #: Connections without a request under way, the longest without one first.
    idle: ClassVar[dict["GuardedProtocol", None]]

    _awaited: _Wait | None = None
    _timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast("Transport", transport))
        if len(self.connections) > self.most:
            (next(iter(self.idle), self)).cut("crowded")
        self._await(_Wait.HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await(None)
        self.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # From here on uvicorn's own keep-alive timer runs until the next byte.
        if self.conn.their_state is h11.IDLE:
            self._await(None)
            self.idle[self] = None
        else:
            self._look()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 uvicorn's signature
        """Answers what is no HTTP; called where h11's error is being handled."""
        error = sys.exception()
        hint = getattr(error, "error_status_hint", HTTPStatus.BAD_REQUEST)
        self._refuse(HTTPStatus(hint), "bad_request", "The request is not the HTTP/1.1 that is spoken here.")
        CONNECTIONS.labels("bad_request").inc()

    def cut(self, reason: str) -> None:
        """Ends the connection at once."""
        CONNECTIONS.labels(reason).inc()
        self.idle.pop(self, None)
        self.transport.abort()

    def _look(self) -> None:
        """Sees what the caller owes now, and since when."""
        state = self.conn.their_state
        if state is h11.IDLE:
            self._await(_Wait.HEAD)
        elif state is h11.SEND_BODY:
            self._await(_Wait.REST if self.cycle.response_complete else _Wait.BODY)
        else:
            self._await(None)

    def _await(self, what: _Wait | None) -> None:
        if what in (None, _Wait.BODY):
            self.idle.pop(self, None)
        else:
            self.idle.setdefault(self)
        if what == self._awaited:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._awaited = what
        self._timer = None if what is None else self.loop.call_later(self.seconds[what], self._too_slow)

    def _too_slow(self) -> None:
        if self.transport.is_closing():
            return
        if self._awaited == _Wait.BODY and not self.cycle.response_started:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too_slow", "The request did not arrive in time.")
            CONNECTIONS.labels("slow").inc()
        else:
            self.cut("slow")

    def _refuse(self, status: HTTPStatus, word: str, detail: str) -> None:
        """Answers in the application's place and closes."""
        log.info("request", route="none", status=int(status), client=address(self.client))
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"status": word, "detail": detail}).encode()
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            parts: tuple[Any, ...] = (
                h11.Response(status_code=status, headers=headers, reason=status.phrase.encode()),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            for part in parts:
                self.transport.write(self.conn.send(part) or b"")
        self.transport.close()


def guarded(read_seconds: float, most: int) -> type[GuardedProtocol]:
    """The protocol of one server: a body has `read_seconds`, a head 10 at most, and there are `most` connections."""
    head = min(HEAD_SECONDS, read_seconds)
    waits = {_Wait.HEAD: head, _Wait.BODY: read_seconds, _Wait.REST: min(REST_SECONDS, read_seconds)}
    return type("Guarded", (GuardedProtocol,), {"seconds": waits, "most": most, "idle": {}})
