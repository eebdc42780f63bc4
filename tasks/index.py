"""Tasks: from an event or a status look-up to a searchable transcript."""

from config import task_names
from workers.app import app
from workers.base import BaseTask
from workers.pipeline.index import index
from workers.pipeline.outcome import outcome
from workers.pipeline.poll import poll
from workers.resources import get_resources


@app.task(name=task_names.INDEX, bind=True, base=BaseTask)
def run_index(self: BaseTask, /, *, recording_id: int, media_id: str, **later: object) -> str | None:
    """Applies the recording's events and writes its document."""
    resources = get_resources()
    return outcome(resources, recording_id, index(resources, recording_id, by=self.actor))


@app.task(name=task_names.POLL, bind=True, base=BaseTask)
def run_poll(self: BaseTask, /, *, recording_id: int, media_id: str, **later: object) -> str | None:
    """Asks the API how the recording's transcription stands."""
    resources = get_resources()
    poll(resources, recording_id, by=self.actor)
    return outcome(resources, recording_id)
