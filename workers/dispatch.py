"""Sends tasks by name, so that no sender imports a task, and asks the broker what waits and who consumes."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from amqp.exceptions import ChannelError
from celery import chain
from kombu.exceptions import OperationalError

from config import queues, task_names
from workers.app import app
from workers.base import representations
from workers.errors import PartUnreachable
from workers.model import Lane, Recording, State

log = structlog.get_logger(__name__)

_STEPS = (
    (task_names.VALIDATE, queues.VALIDATE),
    (task_names.SUBMIT, queues.SUBMIT),
    (task_names.TRACK, queues.TRACK),
)


def send_steps(recordings: Iterable[Recording]) -> int:
    """Sends each recording what is left of its chain, with the epoch it has now; gives how many were sent.

    Raises PartUnreachable when the broker does not take one: the rows stay queued and the sweep sends them later.
    """
    sent = 0
    with app.producer_pool.acquire(block=True) as producer:
        for recording in recordings:
            steps = _STEPS if recording.state == State.QUEUED else _STEPS[1:]
            links = [_signature(name, _queue(queue, recording.lane), _kwargs(recording)) for name, queue in steps]
            _published(chain(*links).apply_async, producer=producer)
            sent += 1
    return sent


def send_index(recording_id: int, media_id: str) -> None:
    """Asks for the recording's waiting events to be applied and its document to be written."""
    _send(task_names.INDEX, queues.INDEX, {"recording_id": recording_id, "media_id": media_id})


def send_poll(recording_id: int, media_id: str) -> None:
    """Asks for one status look-up."""
    _send(task_names.POLL, queues.POLL, {"recording_id": recording_id, "media_id": media_id})


def send_pump() -> None:
    """Asks for recordings to be handed out now instead of within a second."""
    _send(task_names.PUMP, queues.CONTROL, {}, expires=5)


def waiting_messages(names: Iterable[str]) -> int:
    """How many messages wait in these queues; those in a worker's hands do not count. Raises PartUnreachable."""

    def count() -> int:
        with app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            return sum(_waiting(channel, name) for name in names)

    return int(_published(count))


def consumed_queues(timeout_seconds: float = 1.0) -> set[str]:
    """The queues that some live worker consumes; raises PartUnreachable without a broker."""
    return set(consumers(timeout_seconds))


def consumers(timeout_seconds: float = 1.0) -> Counter[str]:
    """How many live workers take from each queue; raises PartUnreachable without a broker."""
    answers = _published(app.control.inspect(timeout=timeout_seconds).active_queues) or {}
    return Counter(queue["name"] for worker in answers.values() for queue in worker)


def _waiting(channel: Any, queue: str) -> int:
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except ChannelError:
        return 0  # on Redis an empty queue does not exist


def _kwargs(recording: Recording) -> dict[str, Any]:
    return {"recording_id": recording.id, "media_id": recording.media_id, "epoch": recording.epoch}


def _queue(queue: str, lane: Lane) -> str:
    return queues.LIVE if lane == Lane.LIVE else queue


def _signature(name: str, queue: str, kwargs: dict[str, Any]) -> Any:
    # Nobody waits for these: without a word to it, Celery would subscribe to the result in Redis first.
    return app.signature(
        name, kwargs=kwargs, immutable=True, queue=queue, ignore_result=True, **representations(kwargs)
    )


def _send(name: str, queue: str, kwargs: dict[str, Any], **options: Any) -> None:
    _published(_signature(name, queue, kwargs).apply_async, **options)


def _published(send: Any, **options: Any) -> Any:
    scheme, _, path = str(app.conf.broker_url).partition("://")
    if scheme == "redis+socket" and not Path(path.partition("?")[0]).exists():
        # kombu would try for six seconds, and every command of a home whose stack is down would wait for it.
        raise PartUnreachable(f"No broker listens at {path}: start `retroscribe up` in the folder that holds it.")
    try:
        return send(**options)
    except (OperationalError, OSError) as error:
        raise PartUnreachable(
            f"The broker does not answer ({type(error).__name__}): start it, or correct RETROSCRIBE_BROKER_URL."
        ) from None
