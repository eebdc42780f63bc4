"""The first and last that a request meets: the limits that need no body, the access log and the counters."""

import time
import traceback
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final

import structlog
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.metrics import EVENTS, REQUEST_SECONDS
from workers.pipeline.callbacks import CALLBACK_PATH
from workers.receiver import answers
from workers.receiver.answers import answer

log = structlog.get_logger(__name__)

MOST_HEADERS: Final = 64
_TOLD: Final = "retroscribe.told"
_LOOKS: Final = {"/healthz": "healthz", "/readyz": "readyz"}
_DELIVERY: Final = "callback"


@dataclass(slots=True)
class Told:
    """What a handler tells about a delivery for log and counters: neither token nor content."""

    verdict: str = ""
    size: int = 0
    callback_ref: str | None = None
    recording_id: int | None = None


def told(scope: Scope) -> Told:
    """Where the handler of this request puts what it tells."""
    here: Told = scope[_TOLD]
    return here


class Entrance:
    """Answers at once what breaks a limit, passes on the rest, and writes one line about each request.

    Neither path nor query is ever logged: the token stands there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        about, status = Told(), 0
        scope[_TOLD] = about

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await (_refused(scope, about) or self._app)(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 its text may hold anything, and others are still to be served
            about.verdict = "error"
            log.error("request_crashed", error=type(error).__name__, at=_place(error))  # noqa: TRY400
            if not status:
                await answers.crashed()(scope, receive, watched)
        finally:
            _note(scope, about, status, time.perf_counter() - began)


def route(path: str) -> str:
    """What stands in the log for a path."""
    return _DELIVERY if path.startswith(f"{CALLBACK_PATH}/") else _LOOKS.get(path, "none")


def _refused(scope: Scope, about: Told) -> Response | None:
    """The answer to a request that breaks a limit, before anything of it is looked at."""
    if len(scope["headers"]) > MOST_HEADERS:
        about.verdict = "unsupported"
        said = f"At most {MOST_HEADERS} headers are taken."
        return answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers", said)
    where = route(scope["path"])
    if where == "none":
        return answer(HTTPStatus.NOT_FOUND, "not_found", f"POST to {CALLBACK_PATH}/ and the callback token.")
    method = "POST" if where == _DELIVERY else "GET"
    if scope["method"] != method:
        about.verdict = "unsupported"
        return answer(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"Use {method}.", Allow=method)
    if where != _DELIVERY or (wrong := _wrong_form(Headers(scope=scope))) is None:
        return None
    about.verdict = "unsupported"
    return answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported", wrong, Accept_Encoding="identity")


def _wrong_form(headers: Headers) -> str | None:
    """What is wrong with a body that is announced like that. One whose kind is not named is tried."""
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return "The body must not be compressed."
    kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return None
    return "The body must be application/json."


def _note(scope: Scope, about: Told, status: int, seconds: float) -> None:
    where = route(scope["path"])
    if where == _DELIVERY:
        EVENTS.labels(about.verdict or "error").inc()
        REQUEST_SECONDS.observe(seconds)
    fields: dict[str, Any] = {
        "method": scope["method"] if len(scope["method"]) < 10 else "OTHER",
        "route": where,
        "status": int(status),
        "milliseconds": round(seconds * 1000, 1),
        "client": address(scope.get("client")),
    }
    if where == _DELIVERY:
        fields |= {"verdict": about.verdict, "bytes": about.size}
    # With a valid token only: of others there is nothing to be known.
    fields |= {"callback_ref": about.callback_ref} if about.callback_ref else {}
    fields |= {"recording_id": about.recording_id} if about.recording_id else {}
    (log.debug if where in _LOOKS.values() else log.info)("request", **fields)


def address(client: tuple[str, int] | None) -> str | None:
    """The caller's address; what a proxy sent in its place may be anything, and is shown only if it is one."""
    try:
        return str(ip_address(client[0])) if client else None
    except ValueError:
        return None


def _place(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"
