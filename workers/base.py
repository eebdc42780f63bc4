"""The base of all tasks: retries by error class, ids in the log context, readable in Flower."""

from collections.abc import Mapping
from contextlib import suppress
from math import ceil
from typing import Any

import structlog
from celery import Task
from kombu.exceptions import OperationalError

from config.rabbitmq import queue_of
from workers.errors import Retryable

log = structlog.get_logger(__name__)

# Used when neither the error nor the pipeline knows a delay: the ledger or Redis is away.
DEFAULT_RETRY_SECONDS = 5.0
MAX_COUNTDOWN_SECONDS = 30.0
# Flower cuts them at some 50 characters.
SHOWN = ("media_id", "recording_id", "epoch", "backfill")


def representations(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """How Flower shows a message: ids and names only, in a fixed order, so that `kwargs:media_id=...` finds it."""
    shown = {name: kwargs[name] for name in SHOWN if name in kwargs}
    return {"argsrepr": "()", "kwargsrepr": repr(shown)}


def _on_rabbitmq(countdown: float, routing_key: str) -> dict[str, Any]:
    """What a retry there needs to be told by Celery 5.7.

    RabbitMQ delays whole seconds: Celery cuts the rest off, and fails with what is below one. And a retry goes to the
    queue that its task is routed to, not, as on Redis, to the one that the message came from, which may be the live
    lane's.
    """
    return {"countdown": max(1, ceil(countdown)), "queue": queue_of(routing_key)}


class BaseTask(Task[Any, Any]):
    """Retries what is Retryable after the delay that the error carries; the ledger counts attempts, Celery does not."""

    autoretry_for = (Retryable,)
    max_retries = None
    acks_late = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ids = {name: kwargs[name] for name in ("recording_id", "media_id") if name in kwargs}
        with structlog.contextvars.bound_contextvars(task=self.name, task_id=self.request.id, **ids):
            return super().__call__(*args, **kwargs)

    @property
    def actor(self) -> str:
        """Who moves a recording, for its history."""
        return (self.request.id or self.name or "task")[:128]

    def retry(self, *args: Any, **options: Any) -> Any:
        """As Celery's, with the error's own delay and the epoch that the recording has by now."""
        exc = options.get("exc")
        delay = getattr(exc, "retry_after_seconds", None)
        options["countdown"] = min(DEFAULT_RETRY_SECONDS if delay is None else delay, MAX_COUNTDOWN_SECONDS)
        sent: Any = self.request.delivery_info or {}
        if sent.get("exchange"):  # RabbitMQ: on Redis it has no name
            options.update(_on_rabbitmq(options["countdown"], sent["routing_key"]))
        epoch = getattr(exc, "epoch", None)
        if epoch is not None:
            options["kwargs"] = {**(self.request.kwargs or {}), "epoch": epoch}
        log.info("task_retries", error=type(exc).__name__, countdown_seconds=round(options["countdown"], 3))
        return super().retry(*args, **options)

    def apply_async(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        """As Celery's, with a representation that survives retries: Flower shows and searches it."""
        return super().apply_async(args, kwargs, *rest, **{**options, **representations(kwargs or {})})

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        log.error("task_failed", error=type(exc).__name__)
        # Flower finds tasks by their result, which a failed one has not; its exception is shown and not searched.
        with suppress(OperationalError, OSError):
            self.send_event("task-failing", retry=False, result=f"error={type(exc).__name__}")
        super().on_failure(exc, task_id, args, kwargs, einfo)

    def stop_chain(self) -> None:
        """Sends none of the chain's later steps."""
        self.request.chain = None
