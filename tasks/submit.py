"""Task: second step of a recording."""

from config import task_names
from workers.app import app
from workers.base import BaseTask
from workers.pipeline.outcome import outcome
from workers.pipeline.submit import submit
from workers.resources import get_resources


@app.task(name=task_names.SUBMIT, bind=True, base=BaseTask)
def run(self: BaseTask, /, *, recording_id: int, media_id: str, epoch: int, **later: object) -> str | None:
    """Submits the recording for transcription, once."""
    resources = get_resources()
    if not submit(resources, recording_id, epoch, by=self.actor):
        self.stop_chain()
    return outcome(resources, recording_id)
