"""What happens to a submission after it was accepted: some time passes, then an event goes out."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from workers.sandbox.catalogue import Catalogue
from workers.sandbox.chance import seeded
from workers.sandbox.config import SandboxConfig
from workers.sandbox.transcripts import transcript
from workers.sandbox.webhooks import WebhookSender
from workers.sandbox.wire import Submission

LATENCY_SIGMA = 0.4


@dataclass(slots=True)
class Transcription:
    """One accepted submission; times are Unix seconds, `finished_at` None while it is being processed."""

    transcription_id: str
    submission: Submission
    started_at: float
    finished_at: float | None = None


class Processing:
    """Every transcription of this sandbox; its text is made anew each time, so that memory stays flat."""

    def __init__(self, config: SandboxConfig, catalogue: Catalogue, sender: WebhookSender) -> None:
        self._config = config
        self._catalogue = catalogue
        self._sender = sender
        self._transcriptions: dict[str, Transcription] = {}
        # Apart from the counters that can be reset, or ids would repeat.
        self._ordinals: Counter[str] = Counter()

    def get(self, transcription_id: str) -> Transcription | None:
        return self._transcriptions.get(transcription_id)

    async def accept(self, submission: Submission, webhooks: str) -> str:
        """Takes a submission on and returns its transcription id.

        `webhooks` is normal, lost, doubled, or early: then it is finished, and each event tried once, before this
        returns. The id and the time it takes depend only on seed, media id and how often that was accepted before.
        """
        media_id, seed = submission.media_id, self._config.seed
        ordinal = self._ordinals[media_id]
        self._ordinals[media_id] += 1
        digest = blake2b(f"{seed}:{media_id}:{ordinal}".encode(), digest_size=16).digest()
        transcription = Transcription(str(UUID(bytes=digest, version=4)), submission, time.time())
        self._transcriptions[transcription.transcription_id] = transcription
        rng = seeded(seed, media_id, ordinal, "processing")
        seconds = self._config.processing_seconds * rng.lognormvariate(0, LATENCY_SIGMA)
        if rng.random() >= self._config.never_finish:
            if webhooks == "early":
                await self._finish_early(transcription)
            else:
                events = {"lost": 0, "normal": 1, "doubled": 2}[webhooks]
                asyncio.get_running_loop().call_later(seconds, self._finish, transcription, events)
        return transcription.transcription_id

    def data(self, transcription: Transcription) -> dict[str, Any]:
        """The status object, which is also the `data` of the event."""
        submission = transcription.submission
        data: dict[str, Any] = {
            "transcriptionId": transcription.transcription_id,
            "status": "processing",
            "startedAt": _timestamp(transcription.started_at),
        }
        if transcription.finished_at is None:
            return data
        data["completedAt"] = _timestamp(transcription.finished_at)
        media = self._catalogue.media(submission.media_id)
        if media is None or not media.usable or media.duration_seconds is None:
            return data | {"status": "failed", "message": "The media can't be transcribed."}
        segments = transcript(
            self._config.seed,
            submission.media_id,
            media.duration_seconds,
            submission.languages,
            redacted=submission.redacted,
            with_speakers=submission.with_speakers,
        )
        result = {"mediaId": submission.media_id, "redacted": submission.redacted, "transcripts": segments}
        return data | {"status": "completed", "result": result}

    def _finish(self, transcription: Transcription, events: int) -> None:
        transcription.finished_at = time.time()
        if events and transcription.submission.webhooks:
            uris, body = self._event(transcription)
            for uri in uris * events:
                self._sender.send(uri, body)

    async def _finish_early(self, transcription: Transcription) -> None:
        transcription.finished_at = time.time()
        uris, body = self._event(transcription)
        await asyncio.gather(*(self._sender.send_and_wait(uri, body) for uri in uris))

    def _event(self, transcription: Transcription) -> tuple[list[str], bytes]:
        """The URIs that want this event, and its body."""
        data = self.data(transcription)
        event_type = f"transcription.{data['status']}"
        uris = [webhook.uri for webhook in transcription.submission.webhooks if event_type in webhook.events]
        return uris, json.dumps({"eventType": event_type, "data": data}, ensure_ascii=False).encode()


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
