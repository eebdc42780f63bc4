"""Several who do the same at the same moment: in processes of their own, or in transactions that overlap."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

from sqlalchemy import Connection

from tests.support.eventually import eventually
from workers.ledger.engine import Ledger

S = TypeVar("S")
T = TypeVar("T")
Race = Callable[[Callable[[int], Any]], list[Any]]

PROCESSES = 4
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

_together: Barrier


@contextmanager
def processes() -> Iterator[Race]:
    """What several processes give that do the same at the same moment; each is told its number."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=_get_ready, initargs=[barrier]) as pool:
        yield lambda work: list(pool.map(partial(_at_once, work), range(PROCESSES)))


def overlapping(ledger: Ledger, first: Callable[[Connection], S], second: Callable[[Connection], T]) -> tuple[S, T]:
    """What both give when the first's transaction is committed only once the second's is done or waits for it."""
    with ThreadPoolExecutor(1) as pool:
        with ledger.write() as tx:
            one = first(tx)
            other = pool.submit(_written, ledger, second)
            eventually(
                lambda: other.done() or someone_waits(ledger), what="the second transaction's wait for the first"
            )
        return one, other.result()


def someone_waits(ledger: Ledger) -> bool:
    """Whether a transaction waits for another one's lock; SQLite can't say, there each waits before it begins."""
    if ledger.engine.dialect.name == "sqlite":
        return True
    with ledger.read() as tx:
        return bool(tx.exec_driver_sql(WAITING).scalar_one())


def _written(ledger: Ledger, work: Callable[[Connection], T]) -> T:
    with ledger.write() as tx:
        return work(tx)


def _get_ready(barrier: Barrier) -> None:
    global _together  # noqa: PLW0603 this is how a pool's processes are given something
    _together = barrier


def _at_once(work: Callable[[int], Any], number: int) -> Any:
    _together.wait(30)
    return work(number)
