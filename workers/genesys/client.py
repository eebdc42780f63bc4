"""The transcription API as four calls; each is made once, and what to do about a failure is the caller's to decide."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import structlog

from workers.errors import ApiError, ApiUnreachable
from workers.genesys.answers import (
    Answer,
    Call,
    error_of_answer,
    error_of_exception,
    error_of_unusable,
)
from workers.genesys.deadline import HoldBack, apply_limits, limited_to
from workers.genesys.headers import RateLimitHeaders, rate_limit
from workers.genesys.schemas import (
    MediaBody,
    SubmitBody,
    TokenBody,
    load_object,
    read_status,
    submit_payload,
)
from workers.genesys.tokens import AccessToken
from workers.model import CallClass, Media, TranscriptionRequest, TranscriptionStatus

WHOLE_CALL_SECONDS = 25.0
SEND_WITHIN_SECONDS = 10.0
ANSWER_BYTES = 16 * 1024 * 1024
SHORT_LIFETIME_SECONDS = 300.0
#: What a call ends with that has no HTTP status.
NO_ANSWER = "no_answer"
NOT_SENT = "not_sent"

_TIMEOUT = httpx.Timeout(connect=5, read=20, write=10, pool=5)
_MEDIA = "/api/v2/media"
_TRANSCRIPTIONS = "/api/v2/media/transcriptions"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted and thereby paid submission; `status` is the HTTP status."""

    transcription_id: str
    status: int
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What the answer to a request for a token says beside it; `scopes` is None when it names none."""

    scopes: frozenset[str] | None


class GenesysClient:
    """One for a process; any number of threads may call it.

    It takes no permits, repeats nothing and follows no redirect. A call lasts 25 s at most (only a slow name look-up
    can add to that, and nothing is sent after it). Every method raises errors of `workers.errors` only.
    `on_ratelimit` is told the call class and the API's rate-limit headers of each answer that has them, `on_call` the
    class of each call, its HTTP status, `no_answer` or `not_sent`, and how many seconds it took.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token_url: str,
        client_id: str,
        client_secret: str,
        scopes: str,
        max_connections: int = 32,
        whole_call_seconds: float = WHOLE_CALL_SECONDS,
        on_ratelimit: Callable[[CallClass, RateLimitHeaders], None] | None = None,
        on_call: Callable[[CallClass, str, float], None] | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._token_url = token_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._scopes = scopes
        self._whole_call_seconds = whole_call_seconds
        self._on_ratelimit = on_ratelimit
        self._on_call = on_call
        self._http = httpx.Client(
            timeout=_TIMEOUT,
            limits=httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=5
            ),
            follow_redirects=False,
            headers={"User-Agent": f"retroscribe/{version('retroscribe')}", "Accept": "application/json"},
        )
        apply_limits(self._http)
        #: Of the token that was fetched last, None before the first.
        self.last_grant: Grant | None = None

    def close(self) -> None:
        self._http.close()

    def get_media(self, token: AccessToken, media_id: str) -> Media:
        """What the API knows about a recording's media; safe to repeat. Raises MediaNotFound."""
        call = self._call(CallClass.MEDIA, f"The look-up of media id {media_id}", token)
        answer = self._send(call, "GET", f"{self._base_url}{_MEDIA}/{_segment(media_id)}", token)
        return MediaBody.model_validate(_object(call, answer)).to_media(media_id)

    def submit(
        self,
        token: AccessToken,
        request: TranscriptionRequest,
        *,
        callback_uri: str | None,
        idempotency_key: str,
        send_before: float | None = None,
        not_before: float = 0.0,
    ) -> Accepted:
        """Orders a transcription, which is paid for: safe to repeat only where the error proves that it was refused.

        Both moments are `time.monotonic()`. Until `not_before` the first byte is held back; from `send_before` on, by
        default 10 s from now, none leaves and ApiUnreachable is raised. ApiUnreachable, TokenRejected, ScopeMissing,
        ApiRateLimited and RequestRefused mean not accepted; OutcomeUnknown means that nobody knows.
        """
        fields = {
            "mediaId": request.media_id,
            "languages": ", ".join(request.languages),
            "redactionPolicyId": request.redaction_policy_id or "",
        }
        secrets = (callback_uri, callback_uri.rsplit("/", 1)[-1]) if callback_uri else ()
        call = self._call(CallClass.SUBMIT, f"The submission of media id {request.media_id}", token, fields, secrets)
        answer = self._send(
            call,
            "POST",
            f"{self._base_url}{_TRANSCRIPTIONS}",
            token,
            content=submit_payload(request, callback_uri),
            headers={"Content-Type": "application/json", "Idempotency-Key": idempotency_key},
            held_back=HoldBack(
                "POST", time.monotonic() + SEND_WITHIN_SECONDS if send_before is None else send_before, not_before
            ),
        )
        transcription_id = SubmitBody.model_validate(_object(call, answer)).transcription_id
        if transcription_id is None:
            raise error_of_unusable(call, f"was answered with HTTP {answer.status} without a transcription id", answer)
        return Accepted(transcription_id, answer.status, answer.correlation_id)

    def get_transcription(self, token: AccessToken, transcription_id: str) -> TranscriptionStatus:
        """How far a transcription is; safe to repeat. Raises StatusUnavailable, with the HTTP status 404 or 405."""
        call = self._call(CallClass.STATUS, f"The look-up of transcription {transcription_id}", token)
        answer = self._send(call, "GET", f"{self._base_url}{_TRANSCRIPTIONS}/{_segment(transcription_id)}", token)
        try:
            return read_status(answer.body, transcription_id)
        except ValueError as error:
            raise error_of_unusable(call, f"was answered with something that is {error}", answer) from None

    def fetch_token(self) -> tuple[str, float]:
        """Mints an access token: its value and its lifetime in seconds. Raises CredentialsRejected."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._client_secret,
            "scope": self._scopes,
        }
        secret = self._client_secret
        call = Call(
            CallClass.TOKEN,
            "The fetching of an access token",
            self._scopes,
            hidden=(secret, quote(secret, safe=""), quote_plus(secret)),
        )
        answer = self._send(call, "POST", self._token_url, data=form)
        body = TokenBody.model_validate(_object(call, answer))
        value = body.access_token or ""
        # Nothing else could be sent as a header.
        if not re.fullmatch("[!-~]+", value):
            raise error_of_unusable(call, "was answered without a usable access_token", answer)
        self.last_grant = Grant(None if body.scope is None else frozenset(body.scope.split()))
        lifetime = body.expires_in
        return value, lifetime if lifetime is not None and lifetime > 0 else SHORT_LIFETIME_SECONDS

    def _call(
        self,
        call_class: CallClass,
        subject: str,
        token: AccessToken,
        fields: Mapping[str, str] | None = None,
        secrets: tuple[str, ...] = (),
    ) -> Call:
        return Call(call_class, subject, self._scopes, fields or {}, (token.value, self._client_secret, *secrets))

    def _send(
        self,
        call: Call,
        method: str,
        url: str,
        token: AccessToken | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        held_back: HoldBack | None = None,
        **body: Any,
    ) -> Answer:
        """Makes the call once; raises what an answer other than 2xx, or none, means."""
        began, status = max(time.monotonic(), held_back.not_before if held_back else 0.0), NO_ANSWER
        try:
            answer = self._once(call, method, url, token, headers, held_back, **body)
            status = str(answer.status)
        except ApiError as error:
            status = str(error.status or (NOT_SENT if isinstance(error, ApiUnreachable) else NO_ANSWER))
            raise
        finally:
            self._tell(self._on_call, call.call_class, status, max(0.0, time.monotonic() - began))
        return answer

    def _once(
        self,
        call: Call,
        method: str,
        url: str,
        token: AccessToken | None,
        headers: Mapping[str, str] | None,
        held_back: HoldBack | None,
        **body: Any,
    ) -> Answer:
        authorization = {"Authorization": f"Bearer {token.value}"} if token else {}
        try:
            request = self._http.build_request(
                method,
                url,
                headers={**authorization, **(headers or {})},
                extensions={} if held_back is None else {"trace": held_back},
                **body,
            )
            with limited_to(self._whole_call_seconds):
                answer = self._read(call, request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise error_of_exception(call, error) from None
        if (told := rate_limit(answer.headers)) is not None:
            self._tell(self._on_ratelimit, call.call_class, told)
        if (failure := error_of_answer(call, answer)) is not None:
            raise failure
        return answer

    def _read(self, call: Call, request: httpx.Request) -> Answer:
        response = self._http.send(request, stream=True)
        body, problem = bytearray(), None
        try:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES:
                    problem = f"got an answer of more than {ANSWER_BYTES} bytes"
                    break
        except httpx.HTTPError as error:
            problem = f"got no complete answer ({type(error).__name__})"
        finally:
            response.close()
        answer = Answer(response.status_code, response.headers, bytes(body))
        # A refusal is one by its status alone, a success only with its body.
        if problem and response.is_success:
            raise error_of_unusable(call, problem, answer) from None
        return answer

    def _tell(self, listener: Callable[..., None] | None, *what: object) -> None:
        if listener is None:
            return
        try:
            listener(*what)
        except Exception:  # an acceptance must reach the ledger whatever the listener does
            log.warning("listener_failed", told=[str(one) for one in what], exc_info=True)


def _segment(value: str) -> str:
    """An id as one segment of a path: httpx would take dots alone for a way up."""
    return value.replace(".", "%2E") if value in (".", "..") else quote(value, safe="")


def _object(call: Call, answer: Answer) -> dict[str, Any]:
    try:
        return load_object(answer.body)
    except ValueError as error:
        raise error_of_unusable(call, f"was answered with HTTP {answer.status} and {error}", answer) from None
