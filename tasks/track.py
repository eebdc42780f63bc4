"""Task: third step of a recording."""

from config import task_names
from workers.app import app
from workers.base import BaseTask
from workers.pipeline.outcome import outcome
from workers.pipeline.track import track
from workers.resources import get_resources


@app.task(name=task_names.TRACK, bind=True, base=BaseTask)
def run(self: BaseTask, /, *, recording_id: int, media_id: str, epoch: int, **later: object) -> str | None:
    """Sets when the accepted recording is looked at again."""
    resources = get_resources()
    return outcome(resources, recording_id, track(resources, recording_id))
