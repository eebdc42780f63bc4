"""The sandbox as a server of its own: announces itself when it listens, and runs until it is told to stop."""

import asyncio
import contextlib
import logging
import shlex
import socket
from collections.abc import AsyncIterator, Callable
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from workers.errors import InputError
from workers.sandbox import wire
from workers.sandbox.api import Api
from workers.sandbox.config import SandboxConfig
from workers.sandbox.control import Control
from workers.sandbox.wire import Refusal

__all__ = ["SandboxConfig", "serve"]

STOP_WITHIN_SECONDS = 1
BACKLOG = 2048
# Longer than clients keep an idle connection, so that it is never the sandbox that closes one under a request.
KEEP_ALIVE_SECONDS = 60


def serve(config: SandboxConfig, *, announce: Callable[[str], None]) -> None:
    """Runs the sandbox until SIGTERM or SIGINT, then stops within 3 s; only in a process's main thread.

    `announce` gets the lines to export (GENESYS_...) once connections are taken. Raises InputError when the
    address can't be listened on.
    """
    # It would log each webhook's URI, which is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    listener = _listen(config)
    settings = uvicorn.Config(
        _app(config),
        http=_TransportInState,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_WITHIN_SECONDS,
    )
    lines = _export_lines(config, listener.getsockname()[1])
    asyncio.run(_Server(settings, lambda: announce(lines)).serve(sockets=[listener]))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 uvicorn's signature
        # Uvicorn's own would raise the signal again after a clean stop, and the process would end as if killed.
        self.should_exit = True


class _TransportInState(H11Protocol):
    """Uvicorn's protocol, which also gives the app its transport: no ASGI message can cut a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self.app_state = {**self.app_state, "transport": transport}


def _app(config: SandboxConfig) -> Starlette:
    api = Api(config)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with api.sender:
            yield

    handlers: dict[Any, Any] = {Refusal: _refused, HTTPException: _no_route, Exception: _crashed}
    return Starlette(routes=[*api.routes(), *Control(api).routes()], lifespan=lifespan, exception_handlers=handlers)


async def _refused(_: Request, refusal: Refusal) -> Response:
    return wire.error_answer(refusal)


async def _no_route(_: Request, error: HTTPException) -> Response:
    code = {404: "not.found", 405: "method.not.allowed"}.get(error.status_code, "bad.request")
    return wire.error_answer(Refusal(error.status_code, code, error.detail, error.headers))


async def _crashed(_: Request, __: Exception) -> Response:
    return wire.error_answer(Refusal(500, "internal.server.error", "The sandbox has a bug; its output says more"))


def _listen(config: SandboxConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named; else each answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(
            f"The sandbox can't listen on {config.host} port {config.port} ({error.strerror or error}): "
            "give another port, or 0 for a free one."
        ) from None
    return listener


def _export_lines(config: SandboxConfig, port: int) -> str:
    host = f"[{config.host}]" if ":" in config.host else config.host
    values = {
        "GENESYS_BASE_URL": f"http://{host}:{port}",
        "GENESYS_CLIENT_ID": config.client_id,
        "GENESYS_CLIENT_SECRET": config.client_secret,
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())
