"""The webhook receiver: proves the caller, keeps the event, answers, and only then asks for it to be applied."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect

from workers.errors import InputError, LedgerUnavailable
from workers.metrics import EARLY, SIGNATURES, TOKENS
from workers.pipeline import callbacks
from workers.pipeline.events import Delivery, Receipt, Verdict, look_soon, read
from workers.receiver import answers
from workers.receiver.asking import IndexRequests
from workers.receiver.entrance import Entrance, Told, told
from workers.receiver.inbox import Inbox
from workers.receiver.signature import signature_check
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: A body of this size is read within two milliseconds; larger ones are read in a thread, and two at a time.
READ_AT_ONCE_BYTES: Final = 64 * 1024
READERS: Final = 2
#: What is too large is rare, and looked up one after the other.
LOOKERS: Final = 1


class _TooLarge(Exception):
    """The body is over the limit."""


class _Forged(Exception):
    """Neither the token nor, where one is wanted, the signature proves the caller."""


def make_app(resources: Resources) -> FastAPI:
    """The receiver's application over these resources."""
    desk = _Desk(resources)
    # A redirect to the path without its last slash would repeat the token in a header.
    app = FastAPI(
        title="Retroscribe's receiver",
        description="Takes the transcription API's completion events. Callback URIs are minted for each submission.",
        version="1",
        lifespan=desk.running,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # strangers need no map
    )
    app.add_middleware(Entrance)
    health = answers.described(s200="Yes.", s405="Only GET is taken.")
    ready = health | answers.described(s503="The ledger can't be read.")
    # Whatever stands in the place of the token, slashes too, is a token that nobody minted.
    app.add_api_route(
        callbacks.CALLBACK_PATH + "/{token:path}",
        desk.take,
        methods=["POST"],
        summary="Takes an event",
        responses=answers.DELIVERY_ANSWERS,
        response_model=None,
        openapi_extra=answers.REQUEST_BODY,
    )
    app.add_api_route("/healthz", alive, summary="Whether the process serves", responses=health, response_model=None)
    app.add_api_route(
        "/readyz", desk.ready, summary="Whether the ledger can be read", responses=ready, response_model=None
    )
    return app


def openapi_document(resources: Resources) -> dict[str, Any]:
    """The OpenAPI document, which the receiver itself does not serve."""
    return make_app(resources).openapi()


async def alive() -> JSONResponse:
    return answers.answer(HTTPStatus.OK, "ok")


class _Desk:
    """Takes deliveries one step after the other: token, body, signature, event, ledger, answer, index task."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._most = resources.settings.receiver_max_bytes
        self._requests = IndexRequests()
        self._readers = CapacityLimiter(READERS)
        self._lookers = CapacityLimiter(LOOKERS)
        self._asked: asyncio.Task[JSONResponse] | None = None
        settings = resources.settings
        signers = [secret.get_secret_value() for secret in settings.receiver_signature_secrets]
        self._check = signature_check(settings.receiver_signature, signers)

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """While it runs, what is kept is kept and asked for."""
        self._secrets = self._resources.settings.signing_secrets
        self._inbox = Inbox(self._resources)
        self._inbox.start()
        self._requests.start()
        yield
        await to_thread.run_sync(self._inbox.stop)
        await to_thread.run_sync(self._requests.stop)

    async def take(self, token: str, request: Request) -> JSONResponse:
        about = told(request.scope)
        try:
            return await self._take(about, token, request)
        except _Forged:
            about.verdict = "forged"
            return answers.unauthorized()
        except ClientDisconnect:
            about.verdict = "broken_off"
            return answers.answer(HTTPStatus.BAD_REQUEST, "malformed", "The body broke off.")
        except _TooLarge:
            about.verdict = "too_large"
            return await self._refuse_large(about)
        except InputError as error:
            about.verdict = "malformed"
            return answers.answer(HTTPStatus.BAD_REQUEST, "malformed", str(error))
        except LedgerUnavailable as error:
            return _unavailable(about, error)

    async def ready(self) -> JSONResponse:
        # However many ask, one look at a time is taken, and all are told of it.
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(to_thread.run_sync(self._ask_ledger))
        return await asyncio.shield(self._asked)

    async def _take(self, about: Told, token: str, request: Request) -> JSONResponse:
        verified = callbacks.verify_by(token, self._secrets)
        if verified is None:
            raise _Forged
        about.callback_ref, secret = verified
        TOKENS.labels(str(secret)).inc()
        raw = await self._body(request, about)
        delivery = await self._read(about.callback_ref, request.headers, raw)
        if not delivery.event.known:
            about.verdict = "unknown"
            return answers.accepted()
        return self._kept(about, await self._inbox.store(delivery))

    async def _body(self, request: Request, about: Told) -> bytes:
        """The body, read no further than the limit."""
        if int(request.headers.get("content-length", 0)) > self._most:
            raise _TooLarge
        chunks: list[bytes] = []
        async for chunk in request.stream():
            about.size += len(chunk)
            if about.size > self._most:
                raise _TooLarge
            chunks.append(chunk)
        return b"".join(chunks)

    async def _read(self, callback_ref: str, headers: Mapping[str, str], raw: bytes) -> Delivery:
        """The event, once its signature is checked; raises InputError for a body that is none."""

        def checked() -> Delivery:
            if self._check is not None:
                valid = self._check(headers, raw)
                SIGNATURES.labels("valid" if valid else "invalid").inc()
                if not valid:
                    raise _Forged
            return read(callback_ref, raw)

        if len(raw) <= READ_AT_ONCE_BYTES:
            return checked()
        return await to_thread.run_sync(checked, limiter=self._readers)

    def _kept(self, about: Told, receipt: Receipt) -> JSONResponse:
        about.recording_id = receipt.recording_id
        about.verdict = "accepted" if receipt.verdict == Verdict.STORED else str(receipt.verdict)
        if receipt.verdict == Verdict.MISMATCHED:
            return answers.unauthorized()
        done = answers.accepted()
        if receipt.early:
            EARLY.inc()
        if receipt.verdict == Verdict.STORED and receipt.recording_id is not None and receipt.media_id is not None:
            done.background = BackgroundTask(self._ask_for_index, receipt.recording_id, receipt.media_id)
        return done

    async def _ask_for_index(self, recording_id: int, media_id: str) -> None:
        self._requests.add(recording_id, media_id)

    async def _refuse_large(self, about: Told) -> JSONResponse:
        assert about.callback_ref is not None  # noqa: S101 the token was valid
        try:
            await to_thread.run_sync(look_soon, self._resources, about.callback_ref, limiter=self._lookers)
        except LedgerUnavailable as error:
            return _unavailable(about, error)
        return answers.too_large(self._most)

    def _ask_ledger(self) -> JSONResponse:
        try:
            with self._resources.ledger.read() as tx:
                tx.exec_driver_sql("SELECT 1 FROM events LIMIT 1")
        except LedgerUnavailable as error:
            log.warning("ledger_unavailable", detail=str(error))
            return answers.answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The ledger can't be read now.")
        return answers.answer(HTTPStatus.OK, "ok")


def _unavailable(about: Told, error: LedgerUnavailable) -> JSONResponse:
    about.verdict = "unavailable"
    log.error("event_not_stored", detail=str(error))
    return answers.unavailable()
