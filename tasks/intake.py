"""Task: takes in what other apps send."""

from typing import Any

import structlog

from config import task_names
from workers.app import app
from workers.base import BaseTask
from workers.errors import InputError
from workers.pipeline.enqueue import enqueue
from workers.resources import get_resources

log = structlog.get_logger(__name__)


@app.task(name=task_names.ENQUEUE, bind=True, base=BaseTask, ignore_result=False)
def run(self: BaseTask, /, **message: Any) -> dict[str, Any]:
    """Stores the recordings of a message; the result, kept a day, has a verdict on each entry.

    A message that can't be used as a whole fails with one sentence as its error.
    """
    try:
        return enqueue(get_resources(), message, by=self.actor)
    except InputError as error:
        log.warning("enqueue_refused", detail=str(error))
        raise
