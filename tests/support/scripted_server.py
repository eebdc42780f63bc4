"""An HTTP server of raw sockets that answers as a test scripts it: cut, trickled, late or malformed."""

import json
import socket
import ssl
import threading
from collections.abc import Callable

Reply = bytes | Callable[[socket.socket], None]


def reply(status: int = 200, body: object = b"", **headers: str) -> bytes:
    """A whole response; a body that is not bytes becomes JSON, `_` in a header's name becomes `-`."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + raw


class ScriptedServer:
    """Gives the replies in order, the last again and again; a callable gets the socket, which is closed after it."""

    def __init__(self, *replies: Reply, tls: ssl.SSLContext | None = None) -> None:
        self.replies = list(replies)
        self.requests: list[bytes] = []
        self.connections = 0
        self.stopped = threading.Event()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "ScriptedServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as stream:
                while request := _read_request(stream):
                    self.requests.append(request)
                    scripted = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                    if not isinstance(scripted, bytes):
                        return scripted(stream)
                    stream.sendall(scripted)
        except OSError:
            return None


def _read_request(stream: socket.socket) -> bytes:
    raw = b""
    while b"\r\n\r\n" not in raw:
        part = stream.recv(65536)
        if not part:
            return b""
        raw += part
    head, body = raw.split(b"\r\n\r\n", 1)
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        body += stream.recv(65536)
    return head + b"\r\n\r\n" + body
