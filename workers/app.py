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


@signals.setup_logging.connect
def _log_as_we_do(**_: object) -> None:
    configure_logging(settings.log_format, audit=settings.home / "audit.jsonl")
