"""The endpoints of the transcription API."""

import asyncio
import hmac
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.sandbox import wire
from workers.sandbox.catalogue import Catalogue
from workers.sandbox.config import SandboxConfig
from workers.sandbox.fault_table import LATE_SECONDS
from workers.sandbox.faults import Faults, read_faults
from workers.sandbox.limits import Limits
from workers.sandbox.no_answer import CutConnection, Hang
from workers.sandbox.processing import Processing
from workers.sandbox.signing import signer
from workers.sandbox.stats import Stats
from workers.sandbox.tokens import Tokens
from workers.sandbox.webhooks import WebhookSender
from workers.sandbox.wire import Refusal, Submission

SCOPES = {"submit": "media:transcription:write", "media": "media:media:read"}


class Api:
    """The four endpoints and what they share; a call is checked for token, scope, limit, fault, body, in this order."""

    def __init__(self, config: SandboxConfig) -> None:
        self.stats = Stats()
        self.faults = Faults(config.seed, self.stats)
        self.faults.replace(read_faults(config.faults))
        self.tokens = Tokens(config.token_lifetime_seconds)
        self.sender = WebhookSender(self.stats, signer(config.signature))
        self._config = config
        self.limits = Limits(config.limiter, config.rate, shared=config.buckets == "shared")
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
        if status := self.faults.take("token_status", self.faults.turn("token", form.get("client_id", ""))):
            if status == 429:
                raise self._too_many("token", 1)
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
        told = self._admit(request, "media")
        media_id = request.path_params["media_id"]
        self._check_status("media", self.faults.turn("media", media_id))
        media = self._catalogue.media(media_id)
        if media is None:
            raise Refusal(404, "not.found", "There is no such media")
        body = {"id": media.media_id, "format": media.format, "codec": media.codec}
        duration = {} if media.duration_seconds is None else {"duration": media.duration_seconds}
        return wire.answer(body | duration, headers=told)

    async def _submit(self, request: Request) -> Response:
        self.stats.submits += 1
        raw = await request.body()
        told = self._admit(request, "submit")
        turn = self.faults.turn("submit", wire.named_media(raw))
        if self.faults.take("revoke_tokens", turn):
            self.tokens.revoke_all()
            raise wire.bad_token()
        slow_seconds = self.faults.take("slow_seconds", turn) or 0
        try:
            response = await self._judge(request, raw, turn)
            response.headers.update(told)
        except Refusal as refusal:
            response = wire.error_answer(refusal)
        try:
            await asyncio.sleep(slow_seconds)
        except asyncio.CancelledError:
            # Only a server that stops cancels a call.
            return CutConnection()
        return response

    async def _judge(self, request: Request, raw: bytes, turn: str) -> Response:
        self._check_status("submit", turn)
        match self.faults.take("submit_then", turn):
            case "cut":
                return CutConnection()
            case "hang":
                return Hang()
        submission = wire.submission(request.headers.get("Content-Type", ""), raw)
        if self._catalogue.media(submission.media_id) is None:
            raise Refusal(400, "bad.request", "mediaId: there is no such media")
        transcription_id = await self._accept(submission, request.headers.get("Idempotency-Key"), turn)
        match self.faults.take("accept_then", turn):
            case "502":
                raise Refusal(502, "bad.gateway", "The sandbox accepted the submission, and was told to answer this")
            case "cut":
                return CutConnection()
            case "hang":
                return Hang()
            case "no_id":
                return wire.answer({}, 202)
        return wire.answer({"transcriptionId": transcription_id}, 202)

    async def _accept(self, submission: Submission, idempotency_key: str | None, turn: str) -> str:
        """The transcription id; counts the acceptance, unless this is a repeat and repeats are deduplicated."""
        known = self._processing.get_by_key(idempotency_key)
        if known is not None and self.faults.setting("idempotency") == "deduplicated":
            if known.submission.media_id != submission.media_id:
                raise Refusal(409, "conflict", "The Idempotency-Key was used for another submission")
            self.stats.deduplicated += 1
            return known.transcription_id
        self.stats.count_accepted(submission.media_id, idempotency_key)
        way = self.faults.take("webhooks", turn) or "normal"
        late_seconds = self.faults.setting("late_seconds", LATE_SECONDS)
        return await self._processing.accept(submission, idempotency_key, way, late_seconds)

    async def _status(self, request: Request) -> Response:
        self.stats.status_lookups += 1
        transcription_id = request.path_params["transcription_id"]
        turn = self.faults.turn("status", transcription_id)
        match self.faults.take("status_route", turn):
            case "missing":
                raise Refusal(404, "not.found", "There is no such route")
            case "method_not_allowed":
                raise Refusal(405, "method.not.allowed", "The route has no GET", {"Allow": "OPTIONS"})
        told = self._admit(request, "status")
        self._check_status("status", turn)
        transcription = self._processing.get(transcription_id)
        if transcription is None:
            raise Refusal(404, "not.found", "There is no such transcription")
        return wire.answer(self._processing.data(transcription), headers=told)

    def reset(self) -> None:
        """Zeroes the counters and starts the limits anew; faults, tokens and transcriptions stay."""
        self.stats.reset()
        self.limits.restart()

    def _admit(self, request: Request, call_class: str) -> dict[str, str]:
        """The headers about the limit that go with the answer; raises Refusal where the call may not pass."""
        scopes = self.tokens.scopes(request.headers.get("Authorization", ""))
        if scopes is None:
            raise wire.bad_token()
        needed = SCOPES.get(call_class)
        if needed and needed not in scopes:
            raise wire.missing_scope(needed)
        self._check_limit(call_class)
        return self.limits.headers(call_class)

    def _check_limit(self, call_class: str) -> None:
        retry_after_seconds = self.limits.take(call_class)
        if retry_after_seconds is not None:
            raise self._too_many(call_class, retry_after_seconds)

    def _check_status(self, call_class: str, turn: str) -> None:
        status = self.faults.take(f"{call_class}_status", turn)
        if status == 429:
            raise self._too_many(call_class, 1)
        if status == 401:
            raise wire.bad_token()
        if status == 403 and call_class in SCOPES:
            raise wire.missing_scope(SCOPES[call_class])
        if status:
            raise Refusal(status, "sandbox.fault", "The sandbox was told to answer this")

    def _too_many(self, call_class: str, retry_after_seconds: int) -> Refusal:
        self.stats.rejected_429_by_class[call_class] += 1
        told = self.faults.take("retry_after", self.faults.turn("retry_after", call_class))
        return wire.too_many_requests(None if told == "missing" else told or retry_after_seconds)


def _token_error(status: int, error: str, description: str) -> Response:
    return wire.answer({"error": error, "description": description}, status)
