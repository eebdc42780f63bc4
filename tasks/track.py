"""Task: third step of a recording."""

from config import task_names
from workers.app import app
from workers.base import BaseTask
from workers.pipeline.track import track
from workers.resources import get_resources


@app.task(name=task_names.TRACK, bind=True, base=BaseTask)
def run(self: BaseTask, *, recording_id: int, media_id: str, epoch: int) -> None:  # noqa: ARG001 the ids are for Flower
    """Sets when the accepted recording is looked at again."""
    track(get_resources(), recording_id)
