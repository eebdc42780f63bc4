"""Third step: says when an accepted recording is looked at again, and applies an event that came early."""

from workers import dispatch
from workers.ledger import events, recordings
from workers.model import State
from workers.resources import Resources


def track(resources: Resources, recording_id: int) -> None:
    """Sets the first status look-up of an accepted recording. Needs no epoch: it gives the same whenever it runs."""
    with resources.ledger.write() as tx:
        recording = recordings.lock(tx, recording_id)
        if recording is None or recording.state != State.TRANSCRIBING:
            return
        if recording.polls == 0 and recording.accepted_at is not None:
            first = recording.accepted_at + resources.settings.effective_poll_after_seconds
            recordings.amend(tx, recording, due_at=first)
        early = events.waiting(tx, recording_id)
    if early:
        dispatch.send_index(recording.id, recording.media_id)
