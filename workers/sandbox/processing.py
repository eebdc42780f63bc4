"""What happens to a submission after it was accepted: some time passes, then its events go out."""

import asyncio
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
from workers.sandbox.events import FAILURE, Delivery, deliveries
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
        self._by_key: dict[str, Transcription] = {}
        # Apart from the counters that can be reset, or ids would repeat.
        self._ordinals: Counter[str] = Counter()
        # Those of at most one transcription; the timer sends them if no other transcription's overtake them.
        self._held: list[Delivery] = []
        self._held_timer: asyncio.TimerHandle | None = None

    def get(self, transcription_id: str) -> Transcription | None:
        return self._transcriptions.get(transcription_id)

    def get_by_key(self, idempotency_key: str | None) -> Transcription | None:
        """The transcription of the submission that was accepted last with this key."""
        return self._by_key.get(idempotency_key or "")

    async def accept(self, submission: Submission, idempotency_key: str | None, way: str, late_seconds: float) -> str:
        """Takes a submission on and returns its transcription id.

        `way` is a value of the fault `webhooks`; with early the transcription is finished, and each event tried once,
        before this returns. The id and the time it takes depend only on seed, media id and how often that was
        accepted before.
        """
        media_id, seed = submission.media_id, self._config.seed
        ordinal = self._ordinals[media_id]
        self._ordinals[media_id] += 1
        digest = blake2b(f"{seed}:{media_id}:{ordinal}".encode(), digest_size=16).digest()
        transcription = Transcription(str(UUID(bytes=digest, version=4)), submission, time.time())
        self._transcriptions[transcription.transcription_id] = transcription
        if idempotency_key:
            self._by_key[idempotency_key] = transcription
        rng = seeded(seed, media_id, ordinal, "processing")
        seconds = self._config.processing_seconds * rng.lognormvariate(0, LATENCY_SIGMA)
        if rng.random() >= self._config.never_finish:
            if way == "early":
                transcription.finished_at = time.time()
                await asyncio.gather(*map(self._sender.send_and_wait, self._deliveries(transcription, way)))
            else:
                asyncio.get_running_loop().call_later(seconds, self._finish, transcription, way, late_seconds)
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
            return data | {"status": "failed", "message": FAILURE}
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

    def _finish(self, transcription: Transcription, way: str, late_seconds: float) -> None:
        transcription.finished_at = time.time()
        if way == "late":
            asyncio.get_running_loop().call_later(late_seconds, self._send, transcription, way)
        elif way == "out_of_order" and not self._held:
            self._hold(transcription, late_seconds)
        else:
            self._send(transcription, way)

    def _send(self, transcription: Transcription, way: str) -> None:
        for row in self._deliveries(transcription, way):
            self._sender.send(row + self._release())

    def _hold(self, transcription: Transcription, at_most_seconds: float) -> None:
        """Keeps the deliveries back, to follow those of the next transcription that is finished."""
        self._held = [delivery for row in self._deliveries(transcription, "out_of_order") for delivery in row]
        self._held_timer = asyncio.get_running_loop().call_later(
            at_most_seconds, lambda: self._sender.send(self._release())
        )

    def _release(self) -> list[Delivery]:
        """What was held back, for the caller to send."""
        held, self._held = self._held, []
        if self._held_timer is not None:
            self._held_timer.cancel()
        return held

    def _deliveries(self, transcription: Transcription, way: str) -> list[list[Delivery]]:
        # A transcript takes more time to make than all else here.
        if way == "lost" or not transcription.submission.webhooks:
            return []
        return deliveries(way, transcription.submission, self.data(transcription))


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
