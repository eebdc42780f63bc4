"""Has an event of the inbox applied once more, when what stood in its way may be gone."""

from contextlib import suppress
from typing import Final

from sqlalchemy import Connection

from workers import dispatch
from workers.errors import InputError, PartUnreachable
from workers.genesys.events import parse_event
from workers.ledger import erasure, events, recordings, submissions
from workers.ledger.events import Listed
from workers.model import State
from workers.pipeline.applying import apply_waiting
from workers.resources import Resources

_NO_TEXT: Final = "what it said was removed when its recording was forgotten"


def replay(resources: Resources, event_id: int, *, by: str) -> Listed:
    """Matches an event with its recording if it has none, applies it, and gives it as it is then.

    Safe to repeat: one that was applied stays as it is. Raises InputError when there is no such event or nothing that
    it could be applied to.
    """
    with resources.ledger.write() as tx:
        recording_id = _made_new(tx, event_id)
    if recording_id is not None:
        recording = apply_waiting(resources, recording_id, by=by)
        if recording is not None and recording.state == State.COMPLETED:
            with suppress(PartUnreachable):  # the sweep asks for it within a minute
                dispatch.send_index(recording.id, recording.media_id)
    with resources.ledger.read() as tx:
        return _listed(tx, event_id)


def _made_new(tx: Connection, event_id: int) -> int | None:
    """Puts the event among those that wait; gives its recording's id, None for one that was applied."""
    listed = _listed(tx, event_id)
    if listed.state == events.APPLIED:
        return None
    stored = events.get(tx, event_id)
    submission = submissions.by_callback_ref(tx, stored.callback_ref)
    recording = recordings.lock(tx, submission.recording_id) if submission else None
    if stored.packed == erasure.NOTHING or (recording is not None and recording.state == State.FORGOTTEN):
        raise InputError(f"Event {event_id} is not applied: {_NO_TEXT}.")
    if recording is None:
        raise InputError(
            f"Event {event_id} still belongs to no submission of this ledger (callback ref {stored.callback_ref}): "
            "restore the ledger that knows it, or ask for its recording again and then `retroscribe resolve MEDIA_ID "
            f"--adopt {stored.transcription_id}`."
        )
    media_id = parse_event(stored.payload, whole=False).media_id
    if media_id not in (None, recording.media_id):
        raise InputError(f"Event {event_id} is about the media id {media_id}, its token about {recording.media_id}.")
    if not events.make_new(tx, event_id, recording.id):
        raise InputError(f"Event {event_id} is there twice: `retroscribe events {recording.media_id}` shows the other.")
    return recording.id


def _listed(tx: Connection, event_id: int) -> Listed:
    found = events.listed_one(tx, event_id)
    if found is None:
        raise InputError(
            f"There is no event {event_id}: `retroscribe events` lists those that there are, newest first."
        )
    return found
