"""The shapes of the API: answers, error bodies, and the check of a submission's body."""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response

EVENTS = ("transcription.completed", "transcription.failed")
SUBMISSION_KEYS = ("mediaId", "languages", "redactionPolicyId", "webhooks", "settings")
BCP_47 = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")


class Refusal(Exception):
    """The call is answered with an error; becomes the error body of the contract."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, code, message, headers)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where one submission wants its events, and which."""

    uri: str
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission's body, checked."""

    media_id: str
    languages: tuple[str, ...]
    redacted: bool
    webhooks: tuple[Webhook, ...]
    with_speakers: bool


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer with a correlation id, as every answer has one."""
    return JSONResponse(body, status, {"ININ-Correlation-Id": str(uuid.uuid4()), **(headers or {})})


def error_answer(refusal: Refusal) -> Response:
    """The error body of the API."""
    correlation_id = str(uuid.uuid4())
    body = {
        "message": refusal.message,
        "code": refusal.code,
        "status": refusal.status,
        "contextId": correlation_id,
        "details": [],
        "errors": [],
    }
    return answer(body, refusal.status, {**refusal.headers, "ININ-Correlation-Id": correlation_id})


def too_many_requests(retry_after_seconds: float | None) -> Refusal:
    """429 with seconds to wait, or without."""
    message, headers = "Rate limit exceeded the maximum.", {}
    if retry_after_seconds is not None:
        message += f" Retry the request in [{retry_after_seconds}] seconds"
        headers["Retry-After"] = f"{retry_after_seconds}"
    return Refusal(429, "too.many.requests.retry.after", message, headers)


def missing_scope(scope: str) -> Refusal:
    """403, as for a client that was not granted the scope."""
    return Refusal(403, "missing.any.permissions", f"The client lacks the scope {scope}")


def bad_token() -> Refusal:
    """401, as for a token that is none."""
    return Refusal(401, "bad.credentials", "The access token is missing, expired or revoked")


def named_media(raw: bytes) -> str:
    """The media id in a submission's body that nobody has checked, "" where there is none."""
    try:
        body = json.loads(raw)
    except ValueError:
        return ""
    media_id = body.get("mediaId") if isinstance(body, dict) else None
    return media_id if isinstance(media_id, str) else ""


def submission(content_type: str, raw: bytes) -> Submission:
    """Reads a submission's body; raises Refusal (400) with a message that names the wrong field."""
    if content_type.split(";", 1)[0].strip().lower() != "application/json":
        raise _bad("Content-Type", "must be application/json")
    try:
        body = json.loads(raw)
    except ValueError:
        raise _bad("body", "must be JSON") from None
    if not isinstance(body, dict):
        raise _bad("body", "must be a JSON object")
    for key in body:
        if key not in SUBMISSION_KEYS:
            raise _bad(key[:60], f"is unknown, the fields are {', '.join(SUBMISSION_KEYS)}")
    media_id = body.get("mediaId")
    if not isinstance(media_id, str) or not media_id:
        raise _bad("mediaId", "must be a media id")
    policy = body.get("redactionPolicyId")
    if "redactionPolicyId" in body and (not isinstance(policy, str) or not policy):
        raise _bad("redactionPolicyId", "must be a policy's id, or be left out")
    return Submission(media_id, _languages(body), policy is not None, _webhooks(body), _with_speakers(body))


def _languages(body: dict[str, Any]) -> tuple[str, ...]:
    languages = body.get("languages")
    if not isinstance(languages, list) or not languages:
        raise _bad("languages", "must be a list of at least one BCP 47 tag")
    for number, tag in enumerate(languages):
        if not isinstance(tag, str) or not BCP_47.fullmatch(tag):
            raise _bad(f"languages[{number}]", "must be a BCP 47 tag, such as en-US")
    return tuple(languages)


def _webhooks(body: dict[str, Any]) -> tuple[Webhook, ...]:
    webhooks = body.get("webhooks", [])
    if not isinstance(webhooks, list):
        raise _bad("webhooks", "must be a list")
    return tuple(_webhook(f"webhooks[{number}]", entry) for number, entry in enumerate(webhooks))


def _webhook(name: str, entry: object) -> Webhook:
    if not isinstance(entry, dict):
        raise _bad(name, "must be an object with uri and events")
    uri, events = entry.get("uri"), entry.get("events")
    if not isinstance(uri, str) or not _may_be_called(uri):
        raise _bad(f"{name}.uri", "must be an https URI, or http on loopback")
    if not isinstance(events, list) or not events or any(event not in EVENTS for event in events):
        raise _bad(f"{name}.events", f"must be a list of {' and '.join(EVENTS)}")
    return Webhook(uri, tuple(events))


def _with_speakers(body: dict[str, Any]) -> bool:
    settings = body.get("settings", {})
    if not isinstance(settings, dict):
        raise _bad("settings", "must be an object")
    wanted = settings.get("enableSpeakerIdentification", False)
    if not isinstance(wanted, bool):
        raise _bad("settings.enableSpeakerIdentification", "must be true or false")
    return wanted


def _may_be_called(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))


def _is_loopback(host: str | None) -> bool:
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def _bad(field: str, problem: str) -> Refusal:
    return Refusal(400, "bad.request", f"{field}: {problem}")
