"""The endpoints of the transcription API."""

import asyncio
import hmac
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from workers.sandbox import wire
from workers.sandbox.catalogue import Catalogue
from workers.sandbox.config import SandboxConfig
from workers.sandbox.faults import Faults
from workers.sandbox.limits import Limits
from workers.sandbox.processing import Processing
from workers.sandbox.stats import Stats
from workers.sandbox.tokens import Tokens
from workers.sandbox.webhooks import WebhookSender
from workers.sandbox.wire import Refusal

SCOPES = {"submit": "media:transcription:write", "media": "media:media:read"}


class CutConnection(Response):
    """No answer at all: the connection is closed. Needs the server's protocol to put its transport into the state."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 ASGI's signature
        scope["state"]["transport"].abort()
        # The server must see that the connection is lost before this returns, or it would complain of no answer.
        await asyncio.sleep(0)


class Api:
    """The four endpoints and what they share; a call is checked for token, scope, limit, fault, body, in this order."""

    def __init__(self, config: SandboxConfig) -> None:
        self.stats = Stats()
        self.faults = Faults()
        self.tokens = Tokens(config.token_lifetime_seconds)
        self.sender = WebhookSender(self.stats)
        self._config = config
        self._limits = Limits(config.limiter, config.rate, shared=config.buckets == "shared")
        self._catalogue = Catalogue(config.seed, config.count)
        self._processing = Processing(config, self._catalogue, self.sender)

    def routes(self) -> list[Route]:
        return [
            Route("/api/v2/oauth/token", self._token, methods=["POST"]),
            Route("/api/v2/media/transcriptions", self._submit, methods=["POST"]),
            Route("/api/v2/media/transcriptions/{transcription_id}", self._status, methods=["GET"]),
            Route("/api/v2/media/{media_id}", self._media, methods=["GET"]),
        ]

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode("latin-1")).items()}
        self._check_limit("token")
        if status := self.faults.take("token_status"):
            return _token_error(status, "access_denied", "The sandbox was told to answer this.")
        if form.get("grant_type") != "client_credentials":
            return _token_error(400, "unsupported_grant_type", "grant_type must be client_credentials")
        given = (form.get("client_id", ""), form.get("client_secret", ""))
        expected = (self._config.client_id, self._config.client_secret)
        if not hmac.compare_digest("\n".join(given).encode(), "\n".join(expected).encode()):
            return _token_error(401, "invalid_client", "client id or secret is wrong")
        token = self.tokens.issue(form.get("scope", ""))
        self.stats.tokens_issued += 1
        return wire.answer(
            {"access_token": token, "expires_in": self.tokens.lifetime_seconds, "token_type": "bearer"},
            headers={"Cache-Control": "no-store"},
        )

    async def _media(self, request: Request) -> Response:
        self.stats.media_lookups += 1
        self._admit(request, "media")
        self._check_fault("media_status")
        media = self._catalogue.media(request.path_params["media_id"])
        if media is None:
            raise Refusal(404, "not.found", "There is no such media")
        body = {"id": media.media_id, "format": media.format, "codec": media.codec}
        return wire.answer(body if media.duration_seconds is None else body | {"duration": media.duration_seconds})

    async def _submit(self, request: Request) -> Response:
        self.stats.submits += 1
        raw = await request.body()
        self._admit(request, "submit")
        slow_seconds = self.faults.take("slow_seconds") or 0
        try:
            response = await self._accept(request, raw)
        except Refusal as refusal:
            response = wire.error_answer(refusal)
        await asyncio.sleep(slow_seconds)
        return response

    async def _accept(self, request: Request, raw: bytes) -> Response:
        self._check_fault("submit_status")
        submission = wire.submission(request.headers.get("Content-Type", ""), raw)
        if self._catalogue.media(submission.media_id) is None:
            raise Refusal(400, "bad.request", "mediaId: there is no such media")
        self.stats.count_accepted(submission.media_id, request.headers.get("Idempotency-Key"))
        transcription_id = await self._processing.accept(submission, self.faults.take("webhooks") or "normal")
        match self.faults.take("accept_then"):
            case "502":
                raise Refusal(502, "bad.gateway", "The sandbox accepted the submission, and was told to answer this")
            case "cut":
                return CutConnection()
        return wire.answer({"transcriptionId": transcription_id}, 202)

    async def _status(self, request: Request) -> Response:
        self.stats.status_lookups += 1
        if self.faults.take("status_route") == "missing":
            raise Refusal(404, "not.found", "There is no such route")
        self._admit(request, "status")
        transcription = self._processing.get(request.path_params["transcription_id"])
        if transcription is None:
            raise Refusal(404, "not.found", "There is no such transcription")
        return wire.answer(self._processing.data(transcription))

    def _admit(self, request: Request, call_class: str) -> None:
        scopes = self.tokens.scopes(request.headers.get("Authorization", ""))
        if scopes is None:
            raise Refusal(401, "bad.credentials", "The access token is missing, expired or revoked")
        needed = SCOPES.get(call_class)
        if needed and needed not in scopes:
            raise Refusal(403, "missing.any.permissions", f"The client lacks the scope {needed}")
        self._check_limit(call_class)

    def _check_limit(self, call_class: str) -> None:
        retry_after_seconds = self._limits.take(call_class)
        if retry_after_seconds is not None:
            self.stats.rejected_429_by_class[call_class] += 1
            raise wire.too_many_requests(retry_after_seconds)

    def _check_fault(self, name: str) -> None:
        if status := self.faults.take(name):
            raise Refusal(status, "sandbox.fault", "The sandbox was told to answer this")


def _token_error(status: int, error: str, description: str) -> Response:
    return wire.answer({"error": error, "description": description}, status)
