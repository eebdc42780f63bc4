"""The webhook receiver: proves the caller, keeps the event, answers, and only then asks for it to be applied."""

from http import HTTPStatus
from typing import Final

import structlog
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from workers import dispatch
from workers.errors import InputError, LedgerUnavailable, PartUnreachable
from workers.pipeline import callbacks
from workers.pipeline.events import Receipt, Verdict, look_soon, receive
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: How long a sender is asked to wait when the ledger can't be written.
RETRY_AFTER_SECONDS: Final = 5


class _TooLarge(Exception):
    """The body is over the limit."""


def make_app(resources: Resources) -> FastAPI:
    """The receiver's application over these resources."""
    app = FastAPI(title="Retroscribe receiver", docs_url=None, redoc_url=None, openapi_url=None)
    secrets = resources.settings.signing_secrets

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> JSONResponse:
        try:
            await to_thread.run_sync(_ask_ledger, resources)
        except LedgerUnavailable as error:
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", str(error))
        return _answer(HTTPStatus.OK, "ok")

    @app.post(callbacks.CALLBACK_PATH + "/{token}")
    async def take(token: str, request: Request) -> JSONResponse:
        callback_ref = callbacks.verify(token, secrets)
        if callback_ref is None:
            log.warning("event_forged")
            return _unauthorized()
        try:
            raw = await _body(request, resources.settings.receiver_max_bytes)
        except _TooLarge:
            await to_thread.run_sync(look_soon, resources, callback_ref)
            limit = resources.settings.receiver_max_bytes
            return _answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"At most {limit} bytes are taken.")
        return await to_thread.run_sync(_store, resources, callback_ref, raw)

    return app


def _store(resources: Resources, callback_ref: str, raw: bytes) -> JSONResponse:
    try:
        receipt = receive(resources, callback_ref, raw)
    except InputError as error:
        log.warning("event_malformed")
        return _answer(HTTPStatus.BAD_REQUEST, "malformed", str(error))
    except LedgerUnavailable as error:
        log.error("event_not_stored", detail=str(error))  # noqa: TRY400 the sender tries again
        answer = _answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The event could not be kept; send it again.")
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return answer
    if receipt.verdict == Verdict.MISMATCHED:
        log.warning("event_mismatched", recording_id=receipt.recording_id)
        return _unauthorized()
    log.info("event_received", verdict=str(receipt.verdict), recording_id=receipt.recording_id)
    _ask_for_index(receipt)
    return _answer(HTTPStatus.OK, "accepted")


def _ask_for_index(receipt: Receipt) -> None:
    """The event is kept: when the broker is away, the sweep finds it."""
    if receipt.verdict != Verdict.STORED or receipt.recording_id is None or receipt.media_id is None:
        return
    try:
        dispatch.send_index(receipt.recording_id, receipt.media_id)
    except PartUnreachable as error:
        log.warning("index_not_asked", recording_id=receipt.recording_id, detail=str(error))


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


def _ask_ledger(resources: Resources) -> None:
    with resources.ledger.read() as tx:
        tx.exec_driver_sql("SELECT 1")


def _unauthorized() -> JSONResponse:
    # The same for a token that nobody minted and for one of another recording: nothing is given away.
    return _answer(HTTPStatus.UNAUTHORIZED, "unauthorized", "The callback token is not valid for this event.")


def _answer(status: HTTPStatus, word: str, detail: str | None = None) -> JSONResponse:
    return JSONResponse({"status": word} | ({"detail": detail} if detail else {}), status_code=status)
