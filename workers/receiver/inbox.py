"""Keeps events from a thread of its own: those that come while one transaction is written share the next one."""

import asyncio
import queue
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from workers.errors import LedgerUnavailable
from workers.metrics import STORE_SECONDS, STORED_TOGETHER
from workers.pipeline.events import Delivery, Receipt, receive_all
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: About 30 ms of SQLite, of which others wait for no more than that.
MOST_TOGETHER: Final = 48
#: One large transcript does not wait for ten others.
BYTES_TOGETHER: Final = 1024 * 1024
#: SQLite has one writer. A server has more, and a commit is a round trip in which another one can be made.
WRITERS: Final = {"sqlite": 1, "server": 2}
#: What may wait for its transaction; whatever comes on top is told to come again.
MOST_WAITING: Final = 2000
MOST_BYTES_WAITING: Final = 128 * 1024 * 1024
#: How long an event waits for its transaction before its sender is told to come again.
TURN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    delivery: Delivery
    receipt: "asyncio.Future[Receipt]"


class Inbox:
    """Stores deliveries, many in one transaction under load; made and used in one event loop."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._waiting = 0
        self._bytes = 0
        number = WRITERS["server" if resources.settings.shared_ledger else "sqlite"]
        self._threads = [threading.Thread(target=self._write, name=f"inbox-{n}", daemon=True) for n in range(number)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when what waits is stored."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    async def store(self, delivery: Delivery) -> Receipt:
        """The receipt of a delivery once it is committed; raises LedgerUnavailable when it could not be kept in time.

        It may have been kept all the same: the sender comes again, and it is a duplicate then.
        """
        size = len(delivery.raw)
        if self._waiting >= MOST_WAITING or self._bytes + size > MOST_BYTES_WAITING:
            raise LedgerUnavailable("Too many events wait for the ledger.")
        waiting = _Waiting(delivery, self._loop.create_future())
        self._waiting += 1
        self._bytes += size
        self._queue.put(waiting)
        try:
            return await asyncio.wait_for(waiting.receipt, TURN_SECONDS)
        except TimeoutError:
            raise LedgerUnavailable("The ledger was busy for too long.") from None
        finally:
            self._waiting -= 1
            self._bytes -= size

    def _write(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ended = self._more(first)
            # Whoever has given up is not written for: the ledger was slow enough.
            if wanted := [one for one in batch if not one.receipt.cancelled()]:
                self._store(wanted)
            if ended:
                return

    def _more(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """The first and those behind it that fit into one transaction, and whether the end was reached."""
        batch, size = [first], len(first.delivery.raw)
        while len(batch) < MOST_TOGETHER and size < BYTES_TOGETHER:
            try:
                one = self._queue.get_nowait()
            except queue.Empty:
                break
            if one is None:
                return batch, True
            batch.append(one)
            size += len(one.delivery.raw)
        return batch, False

    def _store(self, batch: list[_Waiting]) -> None:
        began = time.perf_counter()
        try:
            receipts = receive_all(self._resources, [one.delivery for one in batch])
        except LedgerUnavailable as error:
            self._tell(partial(_fail, batch, error))
        except Exception as error:  # noqa: BLE001 whatever it is, the thread serves others
            if len(batch) == 1:
                self._tell(partial(_fail, batch, error))
                return
            # One of them is at fault, and the others are not to suffer for it.
            for one in batch:
                self._store([one])
        else:
            STORE_SECONDS.observe(time.perf_counter() - began)
            STORED_TOGETHER.observe(len(batch))
            self._tell(partial(_settle, batch, receipts))

    def _tell(self, settle: partial[None]) -> None:
        self._loop.call_soon_threadsafe(settle)


def _settle(batch: list[_Waiting], receipts: list[Receipt]) -> None:
    for one, receipt in zip(batch, receipts, strict=True):
        if not one.receipt.done():
            one.receipt.set_result(receipt)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for one in batch:
        if not one.receipt.done():
            one.receipt.set_exception(error)
