"""The webhook receiver: proves the caller, keeps the event, answers, and only then asks for it to be applied."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import structlog
from anyio import CapacityLimiter, fail_after, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from workers.errors import InputError, LedgerUnavailable
from workers.pipeline import callbacks
from workers.pipeline.events import Receipt, Verdict, look_soon, receive
from workers.receiver.asking import IndexRequests
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: How long a sender is asked to wait when the ledger can't be written.
RETRY_AFTER_SECONDS: Final = 5
#: Writers wait for each other in the ledger anyway; the threads left over answer /readyz however long they wait.
WRITERS: Final = 8
#: How long a delivery waits for a writer before its sender is told to come again.
TURN_SECONDS: Final = 10.0


class _TooLarge(Exception):
    """The body is over the limit."""


def make_app(resources: Resources) -> FastAPI:
    """The receiver's application over these resources."""
    requests = IndexRequests()

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        requests.start()
        yield
        await to_thread.run_sync(requests.stop)

    # A redirect to the path without its last slash would repeat the token in a header.
    app = FastAPI(lifespan=running, redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None)
    secrets = resources.settings.signing_secrets
    most = resources.settings.receiver_max_bytes
    writers = CapacityLimiter(WRITERS)

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> JSONResponse:
        return await to_thread.run_sync(_ask_ledger, resources)

    # Whatever stands in the place of the token, slashes too, is a token that nobody minted.
    @app.post(callbacks.CALLBACK_PATH + "/{token:path}")
    async def take(token: str, request: Request) -> JSONResponse:
        callback_ref = callbacks.verify(token, secrets)
        if callback_ref is None:
            log.warning("event_forged")
            return _unauthorized()
        try:
            raw = await _body(request, most)
        except _TooLarge:
            log.warning("event_too_large", callback_ref=callback_ref)
            return await _in_turn(writers, lambda: _refuse_large(resources, callback_ref))
        except ClientDisconnect:
            log.warning("event_broke_off", callback_ref=callback_ref)
            return _answer(HTTPStatus.BAD_REQUEST, "malformed", "The body broke off.")
        return await _in_turn(writers, lambda: _store(resources, requests, callback_ref, raw))

    return app


async def _in_turn(writers: CapacityLimiter, work: Callable[[], JSONResponse]) -> JSONResponse:
    """What `work` answers from a writer's thread; 503 when none came free in time or the ledger can't be written."""
    try:
        # Once begun, the work is waited for: only the waiting for a thread is cut short.
        with fail_after(TURN_SECONDS):
            return await to_thread.run_sync(work, limiter=writers)
    except TimeoutError:
        log.error("event_not_stored", detail="no writer came free")  # noqa: TRY400 the sender tries again
    except LedgerUnavailable as error:
        log.error("event_not_stored", detail=str(error))  # noqa: TRY400 the sender tries again
    answer = _answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The event could not be kept; send it again.")
    answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def _store(resources: Resources, requests: IndexRequests, callback_ref: str, raw: bytes) -> JSONResponse:
    try:
        receipt = receive(resources, callback_ref, raw)
    except InputError as error:
        log.warning("event_malformed", callback_ref=callback_ref)
        return _answer(HTTPStatus.BAD_REQUEST, "malformed", str(error))
    if receipt.verdict == Verdict.MISMATCHED:
        log.warning("event_mismatched", recording_id=receipt.recording_id)
        return _unauthorized()
    log.info("event_received", verdict=str(receipt.verdict), recording_id=receipt.recording_id)
    _ask_for_index(requests, receipt)
    return _answer(HTTPStatus.OK, "accepted")


def _refuse_large(resources: Resources, callback_ref: str) -> JSONResponse:
    look_soon(resources, callback_ref)
    most = resources.settings.receiver_max_bytes
    return _answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"At most {most} bytes are taken.")


def _ask_for_index(requests: IndexRequests, receipt: Receipt) -> None:
    if receipt.verdict == Verdict.STORED and receipt.recording_id is not None and receipt.media_id is not None:
        requests.add(receipt.recording_id, receipt.media_id)


async def _body(request: Request, most: int) -> bytes:
    """The body, read no further than the limit."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _TooLarge
        chunks.append(chunk)
    return b"".join(chunks)


def _ask_ledger(resources: Resources) -> JSONResponse:
    try:
        with resources.ledger.read() as tx:
            tx.exec_driver_sql("SELECT 1 FROM events LIMIT 1")
    except LedgerUnavailable as error:
        log.warning("ledger_unavailable", detail=str(error))
        return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
    return _answer(HTTPStatus.OK, "ok")


def _unauthorized() -> JSONResponse:
    # The same for a token that nobody minted and for one of another recording: nothing is given away.
    return _answer(HTTPStatus.UNAUTHORIZED, "unauthorized", "The callback token is not valid for this event.")


def _answer(status: HTTPStatus, word: str, detail: str | None = None) -> JSONResponse:
    return JSONResponse({"status": word} | ({"detail": detail} if detail else {}), status_code=status)
