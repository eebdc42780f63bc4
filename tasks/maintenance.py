"""Tasks of Celery beat: hand work out, and look after what was left lying.

They send no events: each second a row of its own would push the recordings off Flower's pages.
"""

from config import task_names
from workers.app import app
from workers.base import BaseTask
from workers.pipeline.pump import pump
from workers.pipeline.sweep import sweep
from workers.resources import get_resources


@app.task(name=task_names.PUMP, bind=True, base=BaseTask, autoretry_for=(), send_events=False)
def run_pump(self: BaseTask) -> None:
    """Fills the queues from the ledger; the next one does what this one could not."""
    pump(get_resources(), by=f"pump:{self.actor}")


@app.task(name=task_names.SWEEP, bind=True, base=BaseTask, autoretry_for=(), send_events=False)
def run_sweep(self: BaseTask) -> None:
    """Takes up what is due; the next one does what this one could not."""
    sweep(get_resources(), by=f"sweep:{self.actor}")
