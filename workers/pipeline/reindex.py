"""Rebuilds the search index from the ledger, at no API cost."""

import time
from collections.abc import Iterator
from typing import Final

from workers.genesys.events import parse_event
from workers.ledger import events, recordings
from workers.model import Recording, State
from workers.resources import Resources
from workers.search.documents import Document, document_from
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
            written, last = written + len(batch), batch[-1].id
            yield written
    finally:
        index.close()


def _document(recording: Recording, payload: bytes | None) -> Document | None:
    transcript = parse_event(payload).transcript if payload else None
    if transcript is None:
        return None
    return document_from(recording, transcript, indexed_at=recording.indexed_at or time.time(), version=1)
