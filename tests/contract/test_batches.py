"""Storing a list batch by batch: what a list that breaks off leaves in the ledger."""

from collections.abc import Iterator
from itertools import islice

import pytest
from sqlalchemy import func, select

from tests.support.desk import BY, request
from workers.errors import InputError
from workers.ledger import backfills
from workers.ledger.backfills import Asked
from workers.ledger.engine import Ledger
from workers.ledger.tables import recordings
from workers.model import Lane
from workers.pipeline.batches import LARGEST, Batches

pytestmark = pytest.mark.both_ledgers


def batches(ledger: Ledger) -> Batches:
    with ledger.write() as tx:
        return Batches(ledger, backfills.ensure(tx, "q3", {}), Lane.BACKFILL, by=BY)


def entries(number: int) -> Iterator[Asked]:
    return (Asked(line, request(f"call-{line}")) for line in range(2, number + 2))


def stored(ledger: Ledger) -> int:
    with ledger.read() as tx:
        return int(tx.execute(select(func.count()).select_from(recordings)).scalar_one())


def test_a_list_that_breaks_off_keeps_the_batches_before_and_goes_on_where_it_broke(ledger: Ledger) -> None:
    def breaks_off() -> Iterator[Asked]:
        yield from entries(3000)
        raise InputError("The file breaks off.")

    with pytest.raises(InputError, match="breaks off"):
        list(batches(ledger).take(breaks_off()))
    kept = stored(ledger)
    assert 0 < kept <= 3000

    again = batches(ledger)
    list(again.take(entries(5000)))
    assert (again.taken.repeated, again.taken.accepted) == (kept, 5000 - kept)


def test_whoever_stops_listening_leaves_what_was_stored(ledger: Ledger) -> None:
    seen = batches(ledger)
    progress = seen.take(entries(20_000))
    list(islice(progress, 2))
    progress.close()
    assert stored(ledger) == seen.taken.accepted <= 4 * LARGEST
