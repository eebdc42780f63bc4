"""Third step: applies an event that came before its recording was known to be accepted."""

from workers import dispatch
from workers.ledger import events, recordings
from workers.model import Recording, State
from workers.resources import Resources


def track(resources: Resources, recording_id: int) -> Recording | None:
    """Asks for what the inbox holds for an accepted recording to be applied; gives the recording as it was before that.

    Its first status look-up was set in the transaction that recorded the acceptance, so a lost message costs nothing;
    for the same reason this needs no epoch: it does the same whenever it runs.
    """
    with resources.ledger.read() as tx:
        recording = recordings.get(tx, recording_id)
        early = recording is not None and recording.state == State.TRANSCRIBING and events.waiting(tx, recording_id)
    if recording is not None and early:
        dispatch.send_index(recording.id, recording.media_id)
    return recording
