"""First step: asks the API for the media and decides whether it can be transcribed."""

from contextlib import suppress
from typing import Any

import structlog

from config.settings import Settings
from workers.errors import Halted, MediaNotFound, Retryable
from workers.ledger import recordings
from workers.model import CallClass, Media, Reason, Recording, State
from workers.pipeline import api
from workers.pipeline.clock import after
from workers.pipeline.finish import audit
from workers.pipeline.postpone import (
    HALT_CHECK_SECONDS,
    OUT_SECONDS,
    GivenBack,
    give_back,
    halted,
    postpone,
    stands_still,
)
from workers.resources import Resources

log = structlog.get_logger(__name__)


def validate(resources: Resources, recording_id: int, epoch: int, *, by: str) -> Recording | None:
    """Moves a queued recording to `validated` or `rejected`; gives it when its chain goes on.

    A message whose epoch is not the recording's does nothing, and one of a paused backfill gives its recording back.
    Raises Retryable with its delay for a call to be tried again soon; safe to repeat.
    """
    with resources.ledger.read() as tx:
        recording = recordings.get(tx, recording_id)
        leave = api.leave(tx, resources, recording) if recording else api.Leave.CLEAR
    if recording is None or recording.epoch != epoch:
        return None
    if recording.state != State.QUEUED or stands_still(resources, recording, by=by):
        # Done before, but the next step's message may be lost.
        return recording if recording.state == State.VALIDATED else None
    if leave == api.Leave.HALTED:
        give_back(resources, recording, HALT_CHECK_SECONDS, reason=Reason.HALTED, detail=None, by=by)
        return None
    media = _look_up(resources, recording, by=by)
    if media is None:
        return None
    if leave == api.Leave.PROBE:
        api.lift_halt(resources, CallClass.MEDIA)
    problem = judge(media, resources.settings)
    if problem:
        _reject(resources, recording, *problem, by=by, media=media)
        return None
    with resources.ledger.write() as tx:
        return recordings.move(tx, recording, State.VALIDATED, by=by, due_at=after(OUT_SECONDS), **_facts(media))


def _look_up(resources: Resources, recording: Recording, *, by: str) -> Media | None:
    """The media, None when the recording was rejected or given back."""
    try:
        return api.call(
            resources,
            CallClass.MEDIA,
            lambda token, _permit: resources.client.get_media(token, recording.media_id),
            lane=recording.lane,
            recording_id=recording.id,
        )
    except MediaNotFound as error:
        _reject(resources, recording, Reason.MEDIA_NOT_FOUND, str(error), by=by)
    except Halted as error:
        halted(resources, recording, error, by=by)
    except Retryable as error:
        with suppress(GivenBack):
            postpone(resources, recording, error, by=by)
    return None


def judge(media: Media, settings: Settings) -> tuple[Reason, str] | None:
    """Why the media can't be transcribed, None when it can: what the API left out is a reason, not a pass."""
    lasts = media.duration_seconds
    codec = (media.codec or "").lower()
    checks = (
        (not media.format, Reason.FORMAT_MISSING, "The API names no format for this media."),
        (not codec, Reason.CODEC_MISSING, "The API names no codec for this media."),
        (
            codec not in settings.allowed_codecs,
            Reason.CODEC_UNSUPPORTED,
            f"Codec {media.codec} is not one of {', '.join(settings.allowed_codecs)} (RETROSCRIBE_ALLOWED_CODECS).",
        ),
        (lasts is None, Reason.DURATION_MISSING, "The API names no duration for this media."),
        (lasts is not None and lasts <= 0, Reason.DURATION_NOT_POSITIVE, f"The API gives a duration of {lasts} s."),
        (
            lasts is not None and lasts > settings.max_duration_seconds,
            Reason.DURATION_TOO_LONG,
            f"It lasts {lasts} s, more than {settings.max_duration_seconds:g} s (RETROSCRIBE_MAX_DURATION_SECONDS).",
        ),
    )
    return next(((reason, detail) for found, reason, detail in checks if found), None)


def _facts(media: Media) -> dict[str, Any]:
    codec = media.codec[:64] if media.codec else None
    return {"codec": codec, "format": media.format and media.format[:64], "duration_seconds": media.duration_seconds}


def _reject(
    resources: Resources, recording: Recording, reason: Reason, detail: str, *, by: str, media: Media | None = None
) -> None:
    facts = _facts(media) if media else {}
    with resources.ledger.write() as tx:
        moved = recordings.move(tx, recording, State.REJECTED, by=by, reason=reason, detail=detail, **facts)
        if moved:
            audit(moved)
    if moved:
        log.info("recording_rejected", recording_id=recording.id, media_id=recording.media_id, reason=str(reason))
