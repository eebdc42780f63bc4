"""What a task has come to, in a line for those who read Flower."""

from workers.errors import LedgerUnavailable
from workers.ledger import recordings
from workers.resources import Resources


def outcome(resources: Resources, recording_id: int) -> str | None:
    """The recording's state and reason, such as `state=rejected reason=codec_unsupported`.

    Flower shows and finds it as the task's result: tasks succeed whatever becomes of the recording. None when the
    ledger does not answer now, for the task's work is done.
    """
    try:
        with resources.ledger.read() as tx:
            recording = recordings.get(tx, recording_id)
    except LedgerUnavailable:
        return None
    if recording is None:
        return "state=none"
    return f"state={recording.state}" + (f" reason={recording.reason}" if recording.reason else "")
