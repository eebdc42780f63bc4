"""Everything that the ledger knows of a recording, and what its next step depends on."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import RowMapping

from config.settings import Settings
from workers.errors import InputError
from workers.ledger import backfills, canaries, controls, events, handout, recordings, submissions
from workers.ledger.states import BEFORE_COMPLETED
from workers.limits.limiter import LimiterState
from workers.model import CallClass, Recording, State
from workers.pipeline.bounds import Standing, standing
from workers.pipeline.status import limits
from workers.pipeline.way_back import WayBack, way_back, worth_asking
from workers.resources import Resources


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the next step of every recording depends on at one moment, `now` in Unix seconds.

    `limits` is empty when Redis can't be asked, `asks` False when the API is known to have no status route.
    """

    now: float
    settings: Settings
    halt: controls.Halt | None
    way_back: WayBack
    asks: bool
    limits: Mapping[CallClass, LimiterState]


@dataclass(frozen=True, slots=True)
class Explained:
    """A recording with its history, oldest first, and what its next step depends on.

    `doubles` are the transcription ids that were paid for beside its own; `before` counts those handed out before it.
    `flies` says whether it belongs to its backfill's canary.
    """

    recording: Recording
    around: Surroundings
    backfill: backfills.Backfill
    bounds: Standing
    history: Sequence[RowMapping]
    submissions: Sequence[submissions.Submission]
    events: Sequence[events.Listed]
    doubles: Sequence[str]
    accepted: bool
    perhaps_accepted: bool
    before: int
    flies: bool

    @property
    def backfill_state(self) -> str:
        return self.backfill.state

    @property
    def event_waits(self) -> bool:
        """Whether the inbox holds something that decides before anything else does."""
        undecided = BEFORE_COMPLETED | {State.TRANSCRIBING}
        return self.recording.state in undecided and any(one.state == events.NEW for one in self.events)

    @property
    def deadline(self) -> float:
        """When an accepted recording without a result is overdue, Unix seconds."""
        return (self.recording.accepted_at or self.around.now) + self.around.settings.deadline_hours * 3600

    def as_json(self) -> dict[str, Any]:
        """The stable form of an entry of `retroscribe explain --json`, but for `next`; times are ISO 8601 in UTC."""
        recording, request = self.recording, self.recording.request
        return {
            "media_id": recording.media_id,
            "ref": recording.ref,
            "backfill": recording.backfill,
            "backfill_state": self.backfill_state,
            "backfill_paused_detail": self.backfill.paused_detail,
            "lane": str(recording.lane),
            "request": {
                "languages": list(request.languages),
                "redaction_policy_id": request.redaction_policy_id,
                "speaker_identification": request.speaker_identification,
            },
            "state": str(recording.state),
            "reason": recording.reason,
            "detail": recording.detail,
            "transcription_id": recording.transcription_id,
            "accepted_twice": list(self.doubles),
            "codec": recording.codec,
            "format": recording.format,
            "duration_seconds": recording.duration_seconds,
            "created_at": utc(recording.created_at),
            "history": [_transition(row) for row in self.history],
            "submissions": [_submission(one) for one in self.submissions],
            "events": [event_json(one) for one in self.events],
        }


def explain(resources: Resources, media_id_or_ref: str) -> list[Explained]:
    """Every recording with that media id or ref, newest first; raises InputError when there is none."""
    calls = limits(resources)
    with resources.ledger.read() as tx:
        found = _found(tx, media_id_or_ref)
        around = _surroundings(tx, resources, calls)
        return [_explained(tx, one, around) for one in found]


def inbox(
    resources: Resources, *, state: str | None = None, media_id_or_ref: str | None = None, most: int
) -> list[events.Listed]:
    """The newest events, newest first; raises InputError when a recording is named that there is not."""
    with resources.ledger.read() as tx:
        ids = None if media_id_or_ref is None else [one.id for one in _found(tx, media_id_or_ref)]
        return events.listed(tx, state=state, recording_ids=ids, most=most)


def utc(moment: float | None) -> str | None:
    """Unix seconds as ISO 8601 in UTC."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


def event_json(event: events.Listed) -> dict[str, Any]:
    """The stable form of an event, as `retroscribe events --json` lists it; never its payload."""
    return {
        "id": event.id,
        "received_at": utc(event.received_at),
        "type": event.type,
        "state": event.state,
        "media_id": event.media_id,
        "ref": event.ref,
        "transcription_id": event.transcription_id,
        "has_result": event.has_result,
        "detail": event.detail,
    }


def _found(tx: Connection, media_id_or_ref: str) -> list[Recording]:
    found = recordings.find(tx, media_id_or_ref)
    if not found:
        raise InputError(
            f"There is no recording with the media id or ref '{media_id_or_ref}': `retroscribe status` shows what "
            "this ledger has."
        )
    return found


def _surroundings(tx: Connection, resources: Resources, calls: Mapping[CallClass, LimiterState]) -> Surroundings:
    return Surroundings(
        now=time.time(),
        settings=resources.settings,
        halt=controls.halt(tx, resources.client_key),
        way_back=way_back(tx, resources),
        asks=worth_asking(tx, resources),
        limits=calls,
    )


def _explained(tx: Connection, recording: Recording, around: Surroundings) -> Explained:
    backfill = backfills.get(tx, recording.backfill_id)
    return Explained(
        recording=recording,
        around=around,
        backfill=backfill,
        bounds=standing(tx, backfill),
        history=recordings.history(tx, recording.id),
        submissions=submissions.of_recording(tx, recording.id),
        events=events.of_recording(tx, recording.id),
        doubles=submissions.doubles_of(tx, recording.id),
        accepted=bool(submissions.accepted_among(tx, [recording.id])),
        perhaps_accepted=bool(submissions.perhaps_accepted_among(tx, [recording.id])),
        before=handout.waiting_before(tx, recording) if recording.state == State.PENDING else 0,
        flies=backfill.canary is not None and canaries.has(tx, backfill.id, recording.id),
    )


def _transition(row: RowMapping) -> dict[str, Any]:
    return {
        "at": utc(row["at"]),
        "from": row["from_state"],
        "to": row["to_state"],
        "by": row["by"],
        "reason": row["reason"],
        "detail": row["detail"],
    }


def _submission(one: submissions.Submission) -> dict[str, Any]:
    return {
        "number": one.number,
        "callback_ref": one.callback_ref,
        "sent_at": utc(one.sent_at),
        "sends": one.sends,
        "settled_at": utc(one.settled_at),
        "outcome": one.outcome,
        "http_status": one.http_status,
        "correlation_id": one.correlation_id,
        "transcription_id": one.transcription_id,
        "failed_at": utc(one.failed_at),
    }
