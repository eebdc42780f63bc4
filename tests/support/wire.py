"""A TCP connection between a part and a server, to be cut: a server that is away without losing what it holds."""

import socket
import threading
from contextlib import suppress
from enum import StrEnum


class Cut(StrEnum):
    """How a server is away."""

    REFUSED = "refused"  # nobody listens
    SILENT = "silent"  # connections are taken and never answered


class Wire:
    """Forwards connections from `port` to the server's; safe to cut and to mend at any moment."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._cut: Cut | None = None
        self._open: list[socket.socket] = []
        self._changing = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self, how: Cut) -> None:
        """Breaks what is open, and from now on answers nobody."""
        self._cut = how
        if how == Cut.REFUSED:
            self._stop_listening()
        self._drop()

    def mend(self) -> None:
        """Everything passes again; connections that waited are broken, so that they are made anew."""
        was, self._cut = self._cut, None
        if was == Cut.REFUSED:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        self._drop()

    def close(self) -> None:
        self._stop_listening()
        self._drop()

    def _stop_listening(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _drop(self) -> None:
        with self._changing:
            dropped, self._open = self._open, []
        for connection in dropped:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                inside, _ = listener.accept()
                self._connect(inside)

    def _connect(self, inside: socket.socket) -> None:
        ends = [inside]
        if self._cut is None:
            ends.append(socket.create_connection(("127.0.0.1", self._server_port)))
        with self._changing:
            self._open += ends
        if len(ends) == 2:
            for one, other in (ends, ends[::-1]):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
