"""Task: first step of a recording."""

from config import task_names
from workers.app import app
from workers.base import BaseTask
from workers.pipeline.outcome import outcome
from workers.pipeline.validate import validate
from workers.resources import get_resources


@app.task(name=task_names.VALIDATE, bind=True, base=BaseTask)
def run(self: BaseTask, /, *, recording_id: int, media_id: str, epoch: int, **later: object) -> str | None:
    """Looks the media up and decides whether it can be transcribed."""
    resources = get_resources()
    validated = validate(resources, recording_id, epoch, by=self.actor)
    if validated is None:
        self.stop_chain()
    return outcome(resources, recording_id, validated)
