"""The part of a worker that talks to the broker: Celery's own, with the events of tasks sent in bunches."""

import time
from typing import Any, Final

from celery import bootsteps
from celery.worker import consumer

#: Flower hears of a task so late at most; a person who looks does not notice.
EVENTS_WAIT_SECONDS: Final = 0.05

_celerys: Any = consumer.Consumer  # celery-types lacks most of it
_RUNNING: Final[int] = vars(bootsteps)["RUN"]


class Consumer(_celerys):  # type: ignore[misc]
    """Celery sends nearly each event by itself, three a task, which took a fifth of a busy worker's time.

    Here an event waits for those of the next 50 ms. What a worker that is killed has not sent is lost to Flower, as
    with Celery's own; one that is asked to stop sends all. A full bunch is sent at once by the thread that filled it,
    which Redis connections bear and RabbitMQ's do not, so config uses this class with Redis only.
    """

    _flush_due: float = 0.0

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
