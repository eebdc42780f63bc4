"""What a task has come to, in a line for those who read Flower."""

from workers.errors import LedgerUnavailable
from workers.ledger import recordings
from workers.model import Recording
from workers.resources import Resources


def outcome(resources: Resources, recording_id: int, known: Recording | None = None) -> str | None:
    """The recording's state and reason, such as `state=rejected reason=codec_unsupported`.

    Flower shows and finds it as the task's result: tasks succeed whatever becomes of the recording. The ledger is
    asked unless the task knows it (`known`). None when it does not answer now, for the task's work is done.
    """
    try:
        recording = known or _look(resources, recording_id)
    except LedgerUnavailable:
        return None
    if recording is None:
        return "state=none"
    return f"state={recording.state}" + (f" reason={recording.reason}" if recording.reason else "")


def _look(resources: Resources, recording_id: int) -> Recording | None:
    with resources.ledger.read() as tx:
        return recordings.get(tx, recording_id)
