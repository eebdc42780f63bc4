"""The API's JSON bodies: what we send, and a reading of theirs that forgives missing, odd and unknown fields."""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

from workers.genesys.depth import is_deeper
from workers.model import Media, Segment, Transcript, TranscriptionRequest, TranscriptionStatus

COMPLETED_EVENT = "transcription.completed"
FAILED_EVENT = "transcription.failed"
QUOTED_CHARACTERS = 300
#: Theirs go five deep.
MAX_DEPTH = 32
MAX_ID_LENGTH = 128

_URL = re.compile(r"(https?://[^/\s]*)/\S+", re.IGNORECASE)


def load_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`; raises ValueError, whose text says what it is instead."""
    if is_deeper(raw, MAX_DEPTH):
        raise ValueError(f"JSON nested more than {MAX_DEPTH} deep")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(value, dict):
        raise ValueError(f"JSON, but a {type(value).__name__} where an object belongs")  # noqa: TRY004 one error class
    return value


def clean_text(value: object) -> str | None:
    """A string that every database stores: lone surrogates and NULs replaced; a number as text; else None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def quotable(value: object, hidden: Iterable[str] = ()) -> str:
    """Their words as one printable line of at most 300 characters, without `hidden` and without URLs' paths.

    The path of a callback URI is a secret. What is no text is "".
    """
    text = clean_text(value) or ""
    for secret in hidden:
        text = text.replace(secret, "***") if secret else text
    text = "".join(character if character.isprintable() else " " for character in text)
    return _URL.sub(r"\1/***", " ".join(text.split()))[:QUOTED_CHARACTERS]


def _identifier(value: object) -> str | None:
    text = (clean_text(value) or "").strip()
    return text if 0 < len(text) <= MAX_ID_LENGTH else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _share(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number <= 1 else None


def _moment(value: object) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip().upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())


def _object(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _segments(value: object) -> list[dict[str, Any]] | None:
    """None without a list; a bare string counts as a segment's text, anything else that is no object is dropped."""
    if not isinstance(value, list):
        return None
    entries = ({"text": entry} if isinstance(entry, str) else entry for entry in value)
    return [entry for entry in entries if isinstance(entry, dict)]


Text = Annotated[str | None, BeforeValidator(clean_text)]
Identifier = Annotated[str | None, BeforeValidator(_identifier)]
Number = Annotated[float | None, BeforeValidator(_number)]
Share = Annotated[float | None, BeforeValidator(_share)]
Moment = Annotated[float | None, BeforeValidator(_moment)]
Flag = Annotated[bool | None, BeforeValidator(_flag)]


class _Body(BaseModel):
    """No value of a field can make one fail: what can't be used counts as missing."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class MediaBody(_Body):
    format: Identifier = None
    codec: Identifier = None
    duration: Number = None

    def to_media(self, media_id: str) -> Media:
        return Media(media_id, self.format, self.codec, self.duration)


class SubmitBody(_Body):
    transcription_id: Identifier = None


class TokenBody(_Body):
    model_config = ConfigDict(alias_generator=None)

    access_token: Identifier = None
    expires_in: Number = None
    scope: Text = None


class SegmentBody(_Body):
    text: Text = None
    confidence: Share = None
    speaker: Identifier = None
    start_ms: Number = None
    end_ms: Number = None
    language: Identifier = None

    def to_segment(self) -> Segment:
        return Segment(
            text=self.text or "",
            confidence=self.confidence,
            speaker=self.speaker,
            start_seconds=None if self.start_ms is None else self.start_ms / 1000,
            end_seconds=None if self.end_ms is None else self.end_ms / 1000,
            language=self.language,
        )


class ResultBody(_Body):
    media_id: Identifier = None
    redacted: Flag = None
    transcripts: Annotated[list[SegmentBody] | None, BeforeValidator(_segments)] = None


class TranscriptionBody(_Body):
    """`data` of an event, which is also what the status call answers."""

    transcription_id: Identifier = None
    media_id: Identifier = None
    status: Identifier = None
    started_at: Moment = None
    completed_at: Moment = None
    result: Annotated[ResultBody | None, BeforeValidator(_object)] = None

    @property
    def any_media_id(self) -> str | None:
        return (self.result.media_id if self.result else None) or self.media_id

    @property
    def has_transcript(self) -> bool:
        return self.result is not None and self.result.transcripts is not None

    def to_transcript(self, transcription_id: str) -> Transcript | None:
        """None without a list of transcripts; an empty list is a transcript without segments."""
        if self.result is None or self.result.transcripts is None:
            return None
        return Transcript(
            transcription_id=transcription_id,
            segments=tuple(segment.to_segment() for segment in self.result.transcripts),
            media_id=self.any_media_id,
            redacted=self.result.redacted,
            started_at=self.started_at,
            completed_at=self.completed_at,
        )


def without_segments(data: dict[str, Any]) -> dict[str, Any]:
    """`data` of an event with its list of transcripts, if there is one, emptied."""
    result = data.get("result")
    if not isinstance(result, dict) or not isinstance(result.get("transcripts"), list):
        return data
    return data | {"result": result | {"transcripts": []}}


def submit_payload(request: TranscriptionRequest, callback_uri: str | None) -> bytes:
    """The body of a submission: the same arguments give the same bytes, so that a server can tell a repeat."""
    body: dict[str, Any] = {"mediaId": request.media_id, "languages": list(request.languages)}
    if request.redaction_policy_id is not None:
        body["redactionPolicyId"] = request.redaction_policy_id
    if callback_uri is not None:
        body["webhooks"] = [{"uri": callback_uri, "events": [COMPLETED_EVENT, FAILED_EVENT]}]
    body["settings"] = {"enableSpeakerIdentification": request.speaker_identification}
    return json.dumps(body, separators=(",", ":")).encode()


def request_digest(request: TranscriptionRequest, callback_uri: str | None) -> bytes:
    """SHA-256 of a submission's body: equal when a repeat would send the same bytes."""
    return hashlib.sha256(submit_payload(request, callback_uri)).digest()


def read_status(payload: bytes, transcription_id: str) -> TranscriptionStatus:
    """The answer to a status call; raises ValueError, whose text says why nothing can be concluded from it."""
    data = load_object(payload)
    body = TranscriptionBody.model_validate(data)
    if body.transcription_id not in (None, transcription_id):
        raise ValueError(f"about another transcription, {body.transcription_id!r:.100}")
    status = body.status.lower() if body.status else ("completed" if body.has_transcript else None)
    if status is None:
        raise ValueError("without the field status")
    return TranscriptionStatus(
        transcription_id=transcription_id,
        status=status,
        payload=payload,
        transcript=body.to_transcript(transcription_id) if status == "completed" else None,
        message=failure_message(data) if status == "failed" else None,
    )


def failure_message(data: dict[str, Any]) -> str | None:
    """Their words on why a transcription failed, wherever they put them."""
    for key in ("message", "errorMessage", "reason", "failureReason", "error", "errors", "result"):
        value = data.get(key)
        first = value[0] if isinstance(value, list) and value else value
        nested = first.get("message") or first.get("code") if isinstance(first, dict) else first
        if text := quotable(nested):
            return text
    return None
