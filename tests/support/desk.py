"""The pipeline as a person at a desk sees it: recordings asked for, brought to a state, and what became of them."""

import base64
import json
import time
from collections.abc import Iterable
from typing import Any

import redis
from sqlalchemy import select

from workers.ledger import backfills, handout, recordings, submissions
from workers.ledger.engine import Ledger
from workers.ledger.tables import recordings as table
from workers.model import Bounds, Lane, Recording, State, TranscriptionRequest
from workers.pipeline.submit import submit
from workers.pipeline.validate import validate
from workers.resources import Resources

BY = "a test"


def request(media_id: str, **changes: Any) -> TranscriptionRequest:
    return TranscriptionRequest(**{"media_id": media_id, "languages": ("en-US",), **changes})


def completed(transcription_id: str, *texts: str, media_id: str | None = None, **data: Any) -> bytes:
    """The body of a transcription.completed event; without texts it is a transcript without segments."""
    result = {"transcripts": [{"text": text} for text in texts]} | ({"mediaId": media_id} if media_id else {})
    data = {"transcriptionId": transcription_id, "status": "completed", "result": result} | data
    return json.dumps({"eventType": "transcription.completed", "data": data}).encode()


def failed(transcription_id: str, message: str) -> bytes:
    """The body of a transcription.failed event."""
    data = {"transcriptionId": transcription_id, "status": "failed", "message": message}
    return json.dumps({"eventType": "transcription.failed", "data": data}).encode()


class Desk:
    """Asks, hands out and looks, over real resources and a real broker."""

    def __init__(self, resources: Resources, broker: redis.Redis) -> None:
        self.resources = resources
        self._broker = broker

    def ask(
        self,
        media_ids: Iterable[str],
        *,
        lane: Lane = Lane.BACKFILL,
        backfill: str = "q3",
        bounds: Bounds = backfills.UNBOUNDED,
    ) -> list[Recording]:
        """Takes them in, as intake does; gives the recordings as they are then."""
        requests = [request(media_id) for media_id in media_ids]
        with self.resources.ledger.write() as tx:
            target = backfills.ensure(tx, backfill, {}, bounds)
            backfills.add(tx, target, lane, [backfills.Asked(n, one) for n, one in enumerate(requests, 2)], by=BY)
            found = [recordings.by_fingerprint(tx, one.fingerprint()) for one in requests]
        return [one for one in found if one is not None]

    def queued(self, media_id: str) -> Recording:
        """Asked for and handed out; its message got lost."""
        (asked,) = self.ask([media_id])
        with self.resources.ledger.write() as tx:
            out = handout.hand_out_one(tx, asked, by=BY, due_at=time.time() + 60)
        assert out is not None
        return out

    def validated(self, media_id: str) -> Recording:
        out = self.queued(media_id)
        assert validate(self.resources, out.id, out.epoch, by=BY)
        return self.now(out)

    def submitted(self, media_id: str) -> Recording:
        """Accepted by the API."""
        ready = self.validated(media_id)
        assert submit(self.resources, ready.id, ready.epoch, by=BY)
        return self.now(ready)

    def now(self, recording: Recording) -> Recording:
        with self.resources.ledger.read() as tx:
            found = recordings.get(tx, recording.id)
        assert found is not None
        return found

    def state(self, recording: Recording) -> State:
        return self.now(recording).state

    def way(self, recording: Recording) -> list[str]:
        """The states that the recording went through, oldest first."""
        with self.resources.ledger.read() as tx:
            return [row["to_state"] for row in recordings.history(tx, recording.id)]

    def submissions(self, recording: Recording) -> list[submissions.Submission]:
        with self.resources.ledger.read() as tx:
            return submissions.of_recording(tx, recording.id)

    def set(self, recording: Recording, **columns: Any) -> Recording:
        """Writes columns of the row, such as a moment that has come."""
        with self.resources.ledger.write() as tx:
            tx.execute(table.update().where(table.c.id == recording.id).values(**columns))
        return self.now(recording)

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """The arguments of the messages that wait in a queue, with the task's name, oldest first."""
        found = []
        for raw in reversed(self._broker.lrange(queue, 0, -1)):
            message = json.loads(raw)
            _, arguments, _ = json.loads(base64.b64decode(message["body"]))
            found.append({"task": message["headers"]["task"], **arguments})
        return found

    def lose_messages(self) -> None:
        """What a wiped broker does."""
        keys = self._broker.keys("retroscribe.*")
        if keys:
            self._broker.delete(*keys)


def queued_recordings(ledger: Ledger) -> list[Recording]:
    """Those that are handed out and not looked up yet, in the order of their ids."""
    with ledger.read() as tx:
        ids = tx.execute(select(table.c.id).where(table.c.state == State.QUEUED).order_by(table.c.id)).scalars().all()
        return [one for id_ in ids if (one := recordings.get(tx, id_)) is not None]
