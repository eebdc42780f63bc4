"""When an HTTP call must have left and when it must have ended: httpx's own timeouts hold for each read and write."""

import math
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]

_ends: ContextVar[float] = ContextVar("_ends", default=math.inf)


@contextmanager
def limited_to(seconds: float) -> Iterator[None]:
    """Calls of this thread inside the block end with a timeout of httpx once it has lasted `seconds`.

    Only a slow name look-up can go beyond, since nothing interrupts it; after it nothing is sent any more.
    """
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


class SentTooLate(httpx.TransportError):
    """The request was held back because its time to leave had passed."""


class HoldBack:
    """A `trace` extension that holds a request's first byte back until `not_before`, for good from `send_before` on.

    Both are `time.monotonic()`. A proxy's CONNECT comes by as well, with a method of its own.
    """

    def __init__(self, method: str, send_before: float, not_before: float = 0.0) -> None:
        self._method = method.encode()
        self._send_before = send_before
        self.not_before = not_before

    def __call__(self, step: str, info: Mapping[str, Any]) -> None:
        if step != "http11.send_request_headers.started" or info["request"].method != self._method:
            return
        time.sleep(max(0.0, min(self.not_before, self._send_before) - time.monotonic()))
        if time.monotonic() >= self._send_before:
            raise SentTooLate("too late to send")


def apply_limits(client: httpx.Client) -> None:
    """Makes the connections of `client` heed `limited_to`."""
    # httpx takes no network backend (its own proxy handling would be lost with a transport of ours); the contract
    # tests of the client fail should these private names change.
    for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
        if isinstance(transport, httpx.HTTPTransport):
            pool = transport._pool  # noqa: SLF001
            pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001


def _within(timeout: float | None, expired: type[httpx.TimeoutException]) -> float | None:
    """The timeout, shortened to what the call has left; raises `expired` when that is nothing."""
    left = _ends.get() - time.monotonic()
    if left <= 0:
        raise expired("the call took too long")
    if left == math.inf:
        return timeout
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _within(timeout, httpx.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _within(timeout, httpx.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            limit = _within(timeout, httpx.ConnectTimeout)
        except httpx.ConnectTimeout:
            self.close()
            raise
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, limit))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        """Tries the host's addresses in turn: left to the socket module, each would have the whole timeout."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"the host name {host} can't be resolved: {error}") from error
        failure: Exception = httpx.ConnectError(f"the host name {host} has no address")
        for *_, address in found:
            limit = _within(timeout, httpx.ConnectTimeout)
            try:
                return _Stream(self._backend.connect_tcp(str(address[0]), port, limit, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure
