"""Rebuilds the search index from the ledger, at no API cost."""

import time
from collections.abc import Iterator
from typing import Final

from workers.ledger import events, recordings
from workers.model import Recording, State
from workers.pipeline.documents import document_of, transcript_of
from workers.pipeline.taking_back import take_back_forgotten
from workers.resources import Resources
from workers.search.documents import Document
from workers.search.sqlite import SqliteIndex

BATCH: Final = 100


def reindex(resources: Resources) -> Iterator[int]:
    """Empties the index and writes the document of each indexed recording anew; tells after each batch how many.

    Until it is done a search finds only what is written already. Workers may go on meanwhile; safe to repeat.
    """
    index = SqliteIndex(resources.settings.search_path, fresh=True)
    written, last = 0, 0
    try:
        while True:
            with resources.ledger.read() as tx:
                batch = recordings.in_state(tx, State.INDEXED, after_id=last, most=BATCH)
                documents = [_document(recording, events.transcript_payload(tx, recording.id)) for recording in batch]
            if not batch:
                return
            index.upsert([document for document in documents if document])
            take_back_forgotten(resources, [recording.id for recording in batch])
            written, last = written + len(batch), batch[-1].id
            yield written
    finally:
        index.close()


def _document(recording: Recording, payload: bytes | None) -> Document | None:
    if payload is None:
        return None
    return document_of(recording, transcript_of(payload), indexed_at=recording.indexed_at or time.time())
