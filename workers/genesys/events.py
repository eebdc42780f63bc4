"""Webhook events, and the one form in which the inbox keeps them whether they were pushed or polled."""

import json
from dataclasses import dataclass
from typing import Any

from workers.errors import InputError
from workers.genesys.schemas import (
    COMPLETED_EVENT,
    FAILED_EVENT,
    TranscriptionBody,
    clean_text,
    failure_message,
    load_object,
    without_segments,
)
from workers.model import Transcript, TranscriptionStatus

_STATUS_OF = {COMPLETED_EVENT: "completed", FAILED_EVENT: "failed"}
_TYPE_OF = {status: event_type for event_type, status in _STATUS_OF.items()}


@dataclass(frozen=True, slots=True)
class Event:
    """An event: `status` is completed or failed; `message` says why it failed; `has_result` that a transcript came.

    When `known` is false the type means nothing to us, and the other fields hold whatever came, or "".
    """

    event_type: str
    transcription_id: str
    status: str
    media_id: str | None = None
    transcript: Transcript | None = None
    message: str | None = None
    known: bool = True
    has_result: bool = False


def parse_event(raw: bytes, *, whole: bool = True) -> Event:
    """The event in a webhook's body or in the inbox; raises InputError with one sentence when it can't be used.

    Not `whole`, it is without its transcript, and read in a fraction of the time: enough to keep it.
    """
    try:
        envelope = load_object(raw)
    except ValueError as error:
        raise InputError(f"The event is {error}; send a JSON object with eventType and data.") from None
    event_type = (clean_text(envelope.get("eventType")) or "").strip()
    if not event_type:
        raise InputError("The event has no eventType; send for example transcription.completed.")
    data = envelope.get("data")
    read = data if isinstance(data, dict) else {}
    body = TranscriptionBody.model_validate(read if whole else without_segments(read))
    if event_type not in _STATUS_OF:
        return Event(event_type, body.transcription_id or "", body.status or "", body.any_media_id, known=False)
    if not isinstance(data, dict):
        raise InputError("The event has no object data; send data.transcriptionId in it.")
    return _known_event(event_type, body, data, whole=whole)


def stored_event(status: TranscriptionStatus) -> bytes:
    """A polled status in an event's form, for the inbox: `parse_event` reads it like a webhook.

    Raises ValueError when the transcription has not ended: there is nothing to store then.
    """
    event_type = _TYPE_OF.get(status.status)
    if event_type is None:
        raise ValueError(f"a transcription that is {status.status} has no event")
    data = load_object(status.payload) | {"transcriptionId": status.transcription_id, "status": status.status}
    return json.dumps({"eventType": event_type, "data": data}, separators=(",", ":")).encode()


def _known_event(event_type: str, body: TranscriptionBody, data: dict[str, Any], *, whole: bool) -> Event:
    if body.transcription_id is None:
        raise InputError("The event has no data.transcriptionId; send the id that the submission was answered with.")
    status = _STATUS_OF[event_type]
    said = (body.status or status).lower()
    if said in _TYPE_OF and said != status:
        # Neither is safe to believe: a failure would be paid for again. Polling finds the truth.
        raise InputError(
            f"The event is a {event_type} but its data.status is {said}; send one that agrees with itself."
        )
    completed = status == "completed"
    return Event(
        event_type=event_type,
        transcription_id=body.transcription_id,
        status=status,
        media_id=body.any_media_id,
        transcript=body.to_transcript(body.transcription_id) if completed and whole else None,
        message=None if completed else failure_message(data),
        has_result=completed and body.has_transcript,
    )
