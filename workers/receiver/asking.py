"""Asks for events to be applied from a thread of its own, so that no answer ever waits for the broker."""

import queue
import threading
import time
from typing import Final

import structlog

from workers import dispatch

log = structlog.get_logger(__name__)

#: More than a broker that is away for a moment, or a storm of events, leaves waiting; the rest is left to the sweep.
MOST_WAITING: Final = 10_000
STOP_SECONDS: Final = 2.0
#: After each message the thread rests for so many times as long as it took: a message takes as much of the process
#: as storing an event, and who waits for an answer goes first.
REST: Final = 2.0


class IndexRequests:
    """Sends the index task for recordings with a new event.

    The event is in the ledger by then, so a message that can't be sent costs nothing but time: the sweep finds it.
    """

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[int, str] | None] = queue.Queue(MOST_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, name="index-requests", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sends what waits, for two seconds at most."""
        self._stopping.set()
        try:
            self._waiting.put(None, timeout=STOP_SECONDS)
        except queue.Full:
            return
        self._thread.join(STOP_SECONDS)

    def add(self, recording_id: int, media_id: str) -> None:
        """Asks for the recording's events to be applied; returns at once."""
        try:
            self._waiting.put_nowait((recording_id, media_id))
        except queue.Full:
            log.debug("index_left_to_sweep", recording_id=recording_id)

    def _send(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            recording_id, media_id = waiting
            began = time.perf_counter()
            try:
                dispatch.send_index(recording_id, media_id)
            except Exception as error:  # noqa: BLE001 the thread outlives whatever the broker's client raises
                log.warning("index_not_asked", recording_id=recording_id, error=type(error).__name__)
            else:
                self._stopping.wait(REST * (time.perf_counter() - began))
