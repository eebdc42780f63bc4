"""Rebuilds the search index from the ledger, at no API cost and while everything goes on."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from workers.errors import InputError, PartUnreachable, SearchUnavailable
from workers.ledger import backfills, recordings, transcripts
from workers.model import Recording, State
from workers.pipeline.alone import alone, keep
from workers.pipeline.documents import document_of, transcript_of
from workers.resources import Resources
from workers.search.documents import Document
from workers.search.index import Rebuild, SearchIndex

BATCH: Final = 100
LEASE: Final = "reindex"
LEASE_SECONDS: Final = 120.0


def reindex(resources: Resources) -> Iterator[int]:
    """Fills a new index and puts it in the place of the old one; tells after each batch how many it has.

    Searches are answered by the old index until then, and workers write both. One process of the fleet at a time:
    raises PartUnreachable when another does it already. Broken off, it leaves the old index as it is.
    """
    with alone(resources, LEASE, LEASE_SECONDS) as mine:
        if not mine:
            raise PartUnreachable(
                "The search index is being rebuilt already: wait for its end. One that was killed holds up the next "
                f"for {LEASE_SECONDS:g} s."
            )
        rebuild = resources.index.rebuild()
        try:
            yield from _fill(resources, rebuild)
            rebuild.finish()
        except BaseException:  # also when it is broken off
            with suppress(SearchUnavailable):
                rebuild.abandon()
            raise


def reindex_backfill(resources: Resources, name: str) -> Iterator[int]:
    """Writes the documents of one backfill anew into the present index; tells after each batch how many.

    Raises InputError when there is no such backfill. Safe to repeat, and to do while anything else goes on.
    """
    with resources.ledger.read() as tx:
        backfill = backfills.by_name(tx, name)
    if backfill is None:
        raise InputError(f"There is no backfill '{name}': `retroscribe status` shows those there are.")
    written, last = 0, 0
    while True:
        with resources.ledger.read() as tx:
            batch = transcripts.batch_of(tx, backfill.id, after_id=last, most=BATCH)
        if not batch:
            return
        _write(resources, resources.index, batch)
        written, last = written + len(batch), batch[-1][0].id
        yield written


def _fill(resources: Resources, rebuild: Rebuild) -> Iterator[int]:
    # Not only what is indexed: whoever writes a document now may have begun before there was a second index.
    written, last = 0, 0
    while True:
        with resources.ledger.read() as tx:
            batch = transcripts.batch(tx, after_id=last, most=BATCH)
        if not batch:
            return
        _write(resources, rebuild, batch)
        keep(resources, LEASE, LEASE_SECONDS)
        written, last = written + len(batch), batch[-1][0].id
        yield written


def _write(resources: Resources, index: SearchIndex | Rebuild, batch: Sequence[tuple[Recording, bytes]]) -> None:
    """Writes a batch, and takes back what was forgotten since it was read."""
    index.upsert([_document(recording, payload) for recording, payload in batch])
    with resources.ledger.read() as tx:
        forgotten = recordings.those_in(tx, [recording.id for recording, _ in batch], State.FORGOTTEN)
    for recording in forgotten:
        index.delete(recording.ref)
    if forgotten:
        resources.index.purge()


def _document(recording: Recording, payload: bytes) -> Document:
    return document_of(recording, transcript_of(payload), indexed_at=recording.indexed_at or time.time())
