"""What the search index holds of a recording, and its JSON form."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workers.model import Recording, Segment, Transcript


@dataclass(frozen=True, slots=True)
class Document:
    """One recording's transcript, ready to be found; times are Unix seconds, None is what nobody knows.

    `version` grows with what the recording's transcript is: an index keeps the document with the highest.
    `confidence` is the average over the segments that have one, 0 to 1.
    """

    ref: str
    version: int
    media_id: str
    transcription_id: str
    backfill: str
    segments: tuple[Segment, ...]
    languages: tuple[str, ...]
    confidence: float | None
    duration_seconds: float | None
    redacted: bool | None
    started_at: float | None
    completed_at: float | None
    created_at: float
    indexed_at: float
    latency_seconds: float | None

    @property
    def text(self) -> str:
        """The segments' texts, a line each."""
        return "\n".join(segment.text for segment in self.segments)


def document_from(recording: Recording, transcript: Transcript, indexed_at: float, version: int) -> Document:
    """The document of a transcript; its languages are those its segments name, else those that were asked for."""
    spoken = dict.fromkeys(segment.language for segment in transcript.segments if segment.language)
    return Document(
        ref=recording.ref,
        version=version,
        media_id=recording.media_id,
        transcription_id=transcript.transcription_id,
        backfill=recording.backfill,
        segments=transcript.segments,
        languages=tuple(spoken) or recording.request.languages,
        confidence=transcript.average_confidence,
        duration_seconds=recording.duration_seconds,
        redacted=transcript.redacted,
        started_at=transcript.started_at,
        completed_at=transcript.completed_at,
        created_at=recording.created_at,
        indexed_at=indexed_at,
        latency_seconds=transcript.latency_seconds,
    )


def to_json(document: Document) -> dict[str, Any]:
    """The public JSON form: times in ISO 8601 (UTC, microseconds), a missing value is null.

    A segment has text and confidence always, speaker, start, end (seconds) and language only where given.
    """
    return {
        "ref": document.ref,
        "version": document.version,
        "id": document.transcription_id,
        "mediaReference": document.media_id,
        "backfill": document.backfill,
        "content": document.text,
        "confidence": document.confidence,
        "segments": [_segment_json(segment) for segment in document.segments],
        "languages": list(document.languages),
        "duration": document.duration_seconds,
        "redacted": document.redacted,
        "startedAt": _iso(document.started_at),
        "completedAt": _iso(document.completed_at),
        "createdAt": _iso(document.created_at),
        "indexedAt": _iso(document.indexed_at),
        "latency_seconds": document.latency_seconds,
    }


def from_json(data: dict[str, Any]) -> Document:
    """The document of a form that `to_json` made; `content` is not read, the segments have it."""
    return Document(
        ref=data["ref"],
        version=data["version"],
        media_id=data["mediaReference"],
        transcription_id=data["id"],
        backfill=data["backfill"],
        segments=tuple(_segment(segment) for segment in data["segments"]),
        languages=tuple(data["languages"]),
        confidence=data["confidence"],
        duration_seconds=data["duration"],
        redacted=data["redacted"],
        started_at=_maybe_seconds(data["startedAt"]),
        completed_at=_maybe_seconds(data["completedAt"]),
        created_at=_seconds(data["createdAt"]),
        indexed_at=_seconds(data["indexedAt"]),
        latency_seconds=data["latency_seconds"],
    )


def _segment_json(segment: Segment) -> dict[str, Any]:
    given = {
        "speaker": segment.speaker,
        "start": segment.start_seconds,
        "end": segment.end_seconds,
        "language": segment.language,
    }
    return {
        "text": segment.text,
        "confidence": segment.confidence,
        **{name: value for name, value in given.items() if value is not None},
    }


def _segment(data: dict[str, Any]) -> Segment:
    return Segment(
        text=data["text"],
        confidence=data["confidence"],
        speaker=data.get("speaker"),
        start_seconds=data.get("start"),
        end_seconds=data.get("end"),
        language=data.get("language"),
    )


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def _maybe_seconds(iso: str | None) -> float | None:
    return None if iso is None else _seconds(iso)
