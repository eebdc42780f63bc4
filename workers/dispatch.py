"""Sends tasks by name, so that no sender imports a task, and asks the broker what waits and who consumes."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import structlog
from amqp.exceptions import AccessRefused, AMQPError, ChannelError, NotAllowed, PreconditionFailed
from celery import chain
from kombu.exceptions import OperationalError

from config import queues, task_names
from config.rabbitmq import speaks_amqp
from workers.app import app
from workers.base import representations
from workers.errors import PartUnreachable
from workers.model import Lane, Recording, State


class BrokerAway(PartUnreachable):
    """Nobody answers at the broker's address: it may come back."""


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
    """Asks for recordings to be handed out now instead of within a second; a person may wait, so not for long."""
    _send(task_names.PUMP, queues.CONTROL, {}, expires=5, retry_policy={"max_retries": 1})


def waiting_messages(names: Iterable[str]) -> int:
    """How many messages wait in these queues; those in a worker's hands do not count. Raises PartUnreachable."""

    def count() -> int:
        with _connected() as connection:
            return sum(found.message_count for name in names if (found := _look(connection, name)))

    return int(_published(count))


def consumed_queues(timeout_seconds: float = 1.0) -> set[str]:
    """The queues that some live worker consumes; raises PartUnreachable without a broker."""
    return set(consumers(timeout_seconds))


def consumers(timeout_seconds: float = 1.0) -> Counter[str]:
    """How many live workers take from each queue; raises PartUnreachable without a broker."""
    if speaks_amqp(str(app.conf.broker_url)):
        return Counter(_published(_ask_rabbitmq))
    answers = _published(app.control.inspect(timeout=timeout_seconds).active_queues) or {}
    return Counter(queue["name"] for worker in answers.values() for queue in worker)


def declare_queues() -> tuple[str, tuple[int, ...]]:
    """Has RabbitMQ make the queues that it lacks; gives its product and version.

    Raises PartUnreachable when it can't be reached or refuses, as where a queue is there in another form.
    """

    def declare() -> tuple[str, tuple[int, ...]]:
        with _connected() as connection:
            server = connection.connection.server_properties
            for queue in app.amqp.queues.values():
                queue(connection.channel()).declare()
            product, version = server.get("product", "its server"), str(server.get("version", ""))
            return f"{product} {version}", tuple(map(int, re.findall(r"\d+", version)[:2]))

    return cast("tuple[str, tuple[int, ...]]", _published(declare))


def prepare_to_consume(*, first: Iterable[str]) -> None:
    """Readies this process for work over RabbitMQ, where it comes `first` for messages of these queues.

    Raises PartUnreachable when RabbitMQ refuses; one that is away is waited for by Celery.
    """
    if not speaks_amqp(str(app.conf.broker_url)):
        return
    for name in first:
        app.amqp.queues[name].consumer_arguments = {"x-priority": 1}
    try:
        declare_queues()
    except BrokerAway as error:
        log.warning("broker_away", detail=str(error))


@contextmanager
def _connected() -> Iterator[Any]:
    with app.connection_for_read() as connection:
        _ = connection.default_channel  # this way of connecting keeps to the times in the transport's options
        yield connection


def _ask_rabbitmq() -> dict[str, int]:
    """What the server knows: asked by Celery, the workers would not hear of it while it takes no messages in."""
    with _connected() as connection:
        looks = {name: _look(connection, name) for name in queues.ALL}
    return {name: found.consumer_count for name, found in looks.items() if found and found.consumer_count}


def _look(connection: Any, queue: str) -> Any:
    """What the broker says of a queue, None if there is none: on Redis also of an empty one."""
    channel = connection.channel()  # of its own, for RabbitMQ closes it after a no
    try:
        return channel.queue_declare(queue, passive=True)
    except ChannelError:
        return None
    finally:
        channel.close()


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
        raise BrokerAway(f"No broker listens at {path}: start `retroscribe up` in the folder that holds it.")
    try:
        return send(**options)
    except PreconditionFailed:
        raise PartUnreachable(
            "RabbitMQ has a queue or exchange of Retroscribe's in another form, which another app must have made: "
            "delete it there, with its messages, and see docs/messages.md for what that app has to set."
        ) from None
    except (AccessRefused, NotAllowed) as error:  # RabbitMQ's own words name the user
        raise PartUnreachable(
            f"RabbitMQ refuses ({type(error).__name__}): correct user, password or vhost in RETROSCRIBE_BROKER_URL, or "
            "give the user all permissions in this vhost."
        ) from None
    except (OperationalError, OSError, AMQPError) as error:
        raise BrokerAway(
            f"The broker does not answer ({type(error).__name__}): start it, or correct RETROSCRIBE_BROKER_URL."
        ) from None
