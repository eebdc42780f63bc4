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


# Flower shows the first 200 characters of the result: there may be 10,000 reasons in it.
@app.task(name=task_names.ENQUEUE, bind=True, base=BaseTask, ignore_result=False, resultrepr_maxsize=200)
def run(self: BaseTask, /, **message: Any) -> dict[str, Any]:
    """Stores the recordings of a message; the result, kept a day, has a verdict on each entry.

    A message that can't be used as a whole fails with one sentence as its error.
    """
    try:
        return enqueue(get_resources(), message, by=self.actor)
    except InputError as error:
        log.warning("enqueue_refused", detail=str(error))
        raise
