"""The frozen values that cross package borders, and the words for why a recording ended as it did."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

_JSON: Final = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


class Lane(StrEnum):
    """`live`: someone waits for it; `backfill`: the rest."""

    LIVE = "live"
    BACKFILL = "backfill"


class CallClass(StrEnum):
    """The kinds of API call, each with a limit of its own."""

    SUBMIT = "submit"
    MEDIA = "media"
    STATUS = "status"
    TOKEN = "token"  # noqa: S105 a class of calls, not a secret


class State(StrEnum):
    """Where a recording stands; what may follow what is in `workers.ledger.states`."""

    PENDING = "pending"
    QUEUED = "queued"
    VALIDATED = "validated"
    SUBMITTING = "submitting"
    UNKNOWN = "unknown"
    PARKED = "parked"
    TRANSCRIBING = "transcribing"
    COMPLETED = "completed"
    INDEXED = "indexed"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    FORGOTTEN = "forgotten"


class Reason(StrEnum):
    """Reason codes of recordings; the detail beside them is a sentence."""

    MEDIA_NOT_FOUND = "media_not_found"
    CODEC_UNSUPPORTED = "codec_unsupported"
    CODEC_MISSING = "codec_missing"
    FORMAT_MISSING = "format_missing"
    DURATION_MISSING = "duration_missing"
    DURATION_TOO_LONG = "duration_too_long"
    DURATION_NOT_POSITIVE = "duration_not_positive"
    REQUEST_REFUSED = "request_refused"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    TRANSCRIPTION_FAILED = "transcription_failed"
    OUTCOME_UNKNOWN = "outcome_unknown"
    OVERDUE = "overdue"
    LEASE_EXPIRED = "lease_expired"
    NOT_SENT = "not_sent"
    ACCEPTED_TWICE = "accepted_twice"
    REPEATED = "repeated"
    REPEAT_REFUSED = "repeat_refused"
    REPEAT_IMPOSSIBLE = "repeat_impossible"
    ADOPTED = "adopted"
    RESUBMITTED = "resubmitted"
    DROPPED = "dropped"
    RETRIED = "retried"
    ASKED_AGAIN = "asked_again"
    GIVEN_BACK = "given_back"
    HALTED = "halted"
    PAUSED = "paused"
    QUIET_HOURS = "quiet_hours"
    CANCELLED = "cancelled"
    HANDED_OVER = "handed_over"
    RESENT = "resent"
    WEBHOOK = "webhook"
    POLLED = "polled"
    EMPTY = "empty"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """What is asked for one media id; `languages` are BCP 47 tags, the first is primary."""

    media_id: str
    languages: tuple[str, ...]
    redaction_policy_id: str | None = None
    speaker_identification: bool = True

    def fingerprint(self) -> bytes:
        """SHA-256 over everything that makes it the same request: equal in whichever backfill it is asked."""
        rest = _options_text(self.languages, self.redaction_policy_id, self.speaker_identification)
        return hashlib.sha256(f"[{_JSON.encode(self.media_id)}, {rest}".encode()).digest()


@lru_cache(maxsize=1024)
def _options_text(languages: tuple[str, ...], redaction_policy_id: str | None, speaker_identification: bool) -> str:  # noqa: FBT001 all there is
    """The end of the JSON array whose digest is the fingerprint: the same for most of a list."""
    parts = [list(languages), redaction_policy_id, {"speaker_identification": speaker_identification}]
    return _JSON.encode(parts)[1:]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a backfill keeps within, None where it has no such bound.

    The first `canary` recordings go ahead of the rest; `only_between` is written as `20:00-06:00 Europe/Madrid`.
    """

    max_recordings: int | None = None
    max_audio_seconds: float | None = None
    canary: int | None = None
    only_between: str | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording as the ledger has it; times are Unix seconds.

    `backfill_state` is running, paused or cancelled, `only_between` the hours at which its backfill may go, None for
    any. `repeats` is the id of the submission that the next POST repeats byte for byte, None when it is a new one.
    """

    id: int
    ref: str
    request: TranscriptionRequest
    backfill_id: int
    backfill: str
    backfill_state: str
    lane: Lane
    state: State
    epoch: int
    attempts: int
    resends: int
    polls: int
    reason: str | None
    detail: str | None
    codec: str | None
    format: str | None
    duration_seconds: float | None
    due_at: float | None
    transcription_id: str | None
    repeats: int | None
    created_at: float
    submitted_at: float | None
    accepted_at: float | None
    completed_at: float | None
    indexed_at: float | None
    only_between: str | None = None

    @property
    def media_id(self) -> str:
        return self.request.media_id


@dataclass(frozen=True, slots=True)
class Media:
    """What the API knows about a media id; what it left out is None. `duration_seconds` may be fractional."""

    media_id: str
    format: str | None
    codec: str | None
    duration_seconds: float | None


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of speech; times are seconds from the start of the call, confidence is 0 to 1."""

    text: str
    confidence: float | None = None
    speaker: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """A finished transcription; times are Unix seconds, None where the API left them out."""

    transcription_id: str
    segments: tuple[Segment, ...]
    media_id: str | None = None
    redacted: bool | None = None
    started_at: float | None = None
    completed_at: float | None = None

    @property
    def text(self) -> str:
        return "\n".join(segment.text for segment in self.segments)

    @property
    def words(self) -> int:
        return sum(len(segment.text.split()) for segment in self.segments)

    @property
    def average_confidence(self) -> float | None:
        """The mean over the confidences there are, None without any."""
        return mean([segment.confidence for segment in self.segments if segment.confidence is not None])

    @property
    def latency_seconds(self) -> float | None:
        """From their start to their end, None without both times."""
        if self.started_at is None or self.completed_at is None:
            return None
        return self.completed_at - self.started_at


@dataclass(frozen=True, slots=True)
class TranscriptionStatus:
    """What the API says about a transcription: `status` is queued, processing, completed or failed.

    `payload` is the answer's bytes as received; `transcript` is None unless it is completed with a result.
    """

    transcription_id: str
    status: str
    payload: bytes
    transcript: Transcript | None = None
    message: str | None = None


def mean(values: Sequence[float]) -> float | None:
    """The arithmetic mean, None of nothing."""
    return sum(values) / len(values) if values else None
