"""The one place where HTTP statuses and httpx's exceptions become errors of ours, which decide what happens next.

A submission is paid for, so whatever does not prove that it was refused leaves its outcome unknown. The other calls
are safe to repeat.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from workers import errors
from workers.genesys.deadline import SentTooLate
from workers.genesys.headers import retry_after_seconds
from workers.genesys.schemas import load_object, quotable
from workers.model import CallClass

GRANT = "Admin > Integrations > OAuth"

_NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.InvalidURL,
)
_BY_STATUS: dict[CallClass, dict[int, type[errors.ApiError]]] = {
    CallClass.SUBMIT: dict.fromkeys((400, 404, 409, 413, 422), errors.RequestRefused),
    CallClass.MEDIA: dict.fromkeys((400, 404, 410, 422), errors.MediaNotFound),
    CallClass.STATUS: dict.fromkeys((404, 405), errors.StatusUnavailable),
    CallClass.TOKEN: dict.fromkeys((400, 401), errors.CredentialsRejected),
}
_BY_STATUS_OF_ALL: dict[int, type[errors.ApiError]] = {
    401: errors.TokenRejected,
    403: errors.ScopeMissing,
    429: errors.ApiRateLimited,
}
_SENTENCES: dict[type[errors.ApiError], str] = {
    errors.RequestRefused: "{subject} was refused{place}: {shown}; correct the request and send it again.",
    errors.MediaNotFound: "{subject} found nothing: {shown}; check the media id.",
    errors.OutcomeUnknown: "{subject} was answered with {shown}, so it may have been accepted.",
    errors.ScopeMissing: "{subject} is forbidden: {shown}; the OAuth client probably lacks the scope {scope}: "
    "grant it under {grant}, then run `retroscribe doctor`.",
    errors.CredentialsRejected: "{subject} was refused: {shown}; compare GENESYS_CLIENT_ID, GENESYS_CLIENT_SECRET and "
    "GENESYS_SCOPES with the OAuth client under {grant}, then run `retroscribe doctor`.",
}
_REDIRECTED = "{subject} was redirected: {shown}; check GENESYS_BASE_URL and GENESYS_TOKEN_URL."
_ANSWERED = "{subject} was answered with {shown}."
_FIELD_WORDS = {
    "mediaId": re.compile(r"media ?id|media (was )?not found", re.IGNORECASE),
    "languages": re.compile(r"language", re.IGNORECASE),
    "redactionPolicyId": re.compile(r"redaction|policy", re.IGNORECASE),
    "webhooks": re.compile(r"webhook|callback|\buri\b", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as its errors describe it: `hidden` never appears in them, `fields` are the values that were sent."""

    call_class: CallClass
    subject: str
    scopes: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes = field(repr=False)

    @property
    def correlation_id(self) -> str | None:
        """What their support asks for."""
        return quotable(self.headers.get("ININ-Correlation-Id"))[:100] or None


@dataclass(frozen=True, slots=True)
class _Complaint:
    """What an error body says, as far as it says anything."""

    message: str
    code: str | None
    correlation_id: str | None
    field: str | None

    def shown(self, status: int) -> str:
        phrase = httpx.codes.get_reason_phrase(status)
        told = [f"HTTP {status} {phrase}".strip(), f"code {self.code}" if self.code else ""]
        told.append(f"correlation id {self.correlation_id}" if self.correlation_id else "")
        return (f"{self.message} " if self.message else "") + f"({', '.join(part for part in told if part)})"


def error_of_answer(call: Call, answer: Answer) -> errors.ApiError | None:
    """What the answer means when it is not a success, else None; the caller raises it."""
    if 200 <= answer.status < 300:
        return None
    kind = _BY_STATUS[call.call_class].get(answer.status) or _BY_STATUS_OF_ALL.get(answer.status)
    if kind is None:
        kind = errors.OutcomeUnknown if call.call_class is CallClass.SUBMIT else errors.ApiUnavailable
    complaint = _read_complaint(call, answer)
    message = _sentence(call, kind, complaint, answer.status)
    told = (message, answer.status, complaint.code, complaint.correlation_id)
    if issubclass(kind, errors.RetryableApiError):
        return kind(*told, retry_after_seconds(answer.headers))
    return kind(*told)


def error_of_exception(call: Call, error: httpx.HTTPError | httpx.InvalidURL) -> errors.ApiError:
    """What an exception of httpx means; raise it `from None`: httpx quotes bad headers, the token's included."""
    cause = type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        cause = quotable(str(error), call.hidden) or cause
    if isinstance(error, SentTooLate):
        return errors.ApiUnreachable(f"{call.subject} was not sent: connecting took until it was too late to send it.")
    if isinstance(error, _NOTHING_SENT):
        setting = "GENESYS_TOKEN_URL" if call.call_class is CallClass.TOKEN else "GENESYS_BASE_URL"
        return errors.ApiUnreachable(
            f"{call.subject} was not sent, the API can't be reached ({cause}); check the network and {setting}."
        )
    return error_of_unusable(call, f"got no complete answer ({cause})")


def error_of_unusable(call: Call, problem: str, answer: Answer | None = None) -> errors.ApiError:
    """For an answer that is missing, cut or makes no sense: `problem` continues a sentence about the call."""
    status, correlation_id = (answer.status, answer.correlation_id) if answer else (None, None)
    if call.call_class is CallClass.SUBMIT:
        return errors.OutcomeUnknown(
            f"{call.subject} {problem}, so it may have been accepted.", status, None, correlation_id
        )
    return errors.ApiUnavailable(f"{call.subject} {problem}.", status, None, correlation_id)


def _sentence(call: Call, kind: type[errors.ApiError], complaint: _Complaint, status: int) -> str:
    usual = _REDIRECTED if 300 <= status < 400 else _ANSWERED
    value = call.fields.get(complaint.field or "")
    place = f" for its {complaint.field}" + (f" {value!r}" if value else "") if complaint.field else ""
    return _SENTENCES.get(kind, usual).format(
        subject=call.subject, shown=complaint.shown(status), place=place, scope=_scope(call), grant=GRANT
    )


def _scope(call: Call) -> str:
    """The scope that this call most likely needs, as the configured list spells it."""
    kind, usual = {
        CallClass.MEDIA: ("media:media", "media:media:read"),
        CallClass.TOKEN: ("", "media:transcription:write"),
    }.get(call.call_class, ("transcription", "media:transcription:write"))
    configured = [scope for scope in call.scopes.split() if kind in scope]
    if not configured:
        return f"{usual}, which GENESYS_SCOPES does not list either"
    return configured[0] if kind else " or ".join(configured)


def _read_complaint(call: Call, answer: Answer) -> _Complaint:
    try:
        body = load_object(answer.body)
    except ValueError:
        body = {}
    text = _plain_text(answer)
    message = next(
        (
            told
            for value in (body.get("message"), body.get("description"), body.get("error_description"), text)
            if (told := quotable(value, call.hidden))
        ),
        "",
    )
    code = quotable(body.get("code"), call.hidden) or quotable(body.get("error"), call.hidden)
    correlation_id = answer.correlation_id or quotable(body.get("contextId"), call.hidden)[:100]
    named = _field(call, body, f"{message} {code}") if call.call_class is CallClass.SUBMIT else None
    return _Complaint(message, code[:100] or None, correlation_id or None, named)


def _plain_text(answer: Answer) -> str:
    """A body that is neither JSON nor a web page may be a sentence."""
    # No part of a longer one: a cut might leave half of a secret, which would no longer be recognised and hidden.
    text = answer.body.decode(errors="replace").strip() if len(answer.body) <= 2000 else ""
    return "" if text[:1] in ("", "<", "{", "[") or "\ufffd" in text or "\0" in text else text


def _field(call: Call, body: dict[str, Any], words: str) -> str | None:
    """The field that the body names in its details or errors, else the one that its words are about."""
    for key in ("details", "errors"):
        entries = body.get(key)
        for entry in entries if isinstance(entries, list) else ():
            for name in ("fieldName", "field") if isinstance(entry, dict) else ():
                if told := quotable(entry.get(name), call.hidden)[:100]:
                    return told
    return next((name for name, pattern in _FIELD_WORDS.items() if pattern.search(words)), None)
