"""The part of a worker that talks to the broker: Celery's own, with one thread sending events of tasks in bunches."""

import sys
import time
from collections.abc import Iterator
from typing import Any, Final
from weakref import WeakSet

from celery import bootsteps
from celery.app import events
from celery.events import dispatcher
from celery.worker import consumer, state

#: Flower hears of a task so late at most; a person who looks does not notice.
EVENTS_WAIT_SECONDS: Final = 0.05

_celerys: Any = consumer.Consumer  # celery-types lacks most of it
_state: Any = state
_RUNNING: Final[int] = vars(bootsteps)["RUN"]


class Dispatcher(dispatcher.EventDispatcher):
    """Sends bunches when the loop's own thread says so, however full one is.

    Celery has a full bunch sent by the thread that filled it. RabbitMQ confirms what is sent, and the loop reads from
    the same connection: it may take the confirmation that the other thread then waits for, with the lock that every
    task needs, for ever. There are never more events than those of the tasks that a worker takes in 50 ms.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.buffer_limit = sys.maxsize


class Events(events.Events):
    """What `app.events` is, with the dispatcher above."""

    dispatcher_cls = "workers.consumer:Dispatcher"


class Requests(WeakSet[Any]):
    """What a worker has in its hands, to be gone through while threads of the pool begin and end tasks.

    Celery 5.7 goes through its plain sets when a connection was lost. A task that ends at that moment then ends the
    whole worker: "Set changed size during iteration", seen once in some thousand restarts of the broker.
    """

    def __iter__(self) -> Iterator[Any]:
        """Over those that are there now."""
        references = list(self.data)  # type: ignore[attr-defined] # in one step, which no other thread comes between
        return iter([request for reference in references if (request := reference()) is not None])


class Consumer(_celerys):  # type: ignore[misc]
    """Celery sends nearly each event by itself, three a task, which took a fifth of a busy worker's time.

    Here an event waits for those of the next 50 ms. What a worker that is killed has not sent is lost to Flower, as
    with Celery's own; one that is asked to stop sends all.
    """

    _flush_due: float = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        for requests in (_state.reserved_requests, _state.active_requests, _state.scheduled_requests):
            requests.__class__ = Requests  # in place: half of Celery holds them, or their methods, by name
        super().__init__(*args, **options)

    def on_send_event_buffered(self) -> None:
        """Called after each event of a task, by the thread that had it."""
        if self.hub is None or self.blueprint.state != _RUNNING:
            super().on_send_event_buffered()
            return
        now = time.monotonic()
        # A time, not a flag: a timer is lost with the connection, and a flag would then stay for ever.
        if now >= self._flush_due:
            self._flush_due = now + EVENTS_WAIT_SECONDS
            self.hub.call_soon(self._flush_later)  # only the loop's own thread may set a timer

    def stop(self) -> None:
        """Stops taking messages; a last flush is left to the end of the loop, after the tasks under way."""
        super().stop()
        super().on_send_event_buffered()

    def _flush_later(self) -> None:
        self.hub.call_later(EVENTS_WAIT_SECONDS, self._flush_events)
