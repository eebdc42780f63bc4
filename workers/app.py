"""The Celery app of every process: `celery -A workers.app`."""

from celery import Celery, signals

from config.celery_settings import celery_settings
from config.logging import configure_logging
from config.settings import load_settings
from workers import kombu_fix

settings = load_settings()
kombu_fix.apply()
app = Celery("retroscribe", task_cls="workers.base:BaseTask")
app.conf.update(celery_settings(settings))


@signals.worker_shutting_down.connect
def _stop_waiting(**_: object) -> None:
    """Whoever waits for a permit gives its message back now: only calls under way are waited for."""
    from workers.resources import get_resources  # noqa: PLC0415 built by the process that works, not by each sender

    get_resources().stopping.set()


@signals.setup_logging.connect
def _log_as_we_do(**_: object) -> None:
    configure_logging(settings.log_format, audit=settings.home / "audit.jsonl")
