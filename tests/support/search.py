"""Documents to index, and what a search of an index finds, by short names."""

from dataclasses import replace
from typing import Any

from workers.model import Segment
from workers.search.documents import Document
from workers.search.index import SearchIndex
from workers.search.query import parse
from workers.search.results import Results

NOON = 1_700_000_000.0


def document(name: str, *texts: str, **other: Any) -> Document:
    made = Document(
        ref=f"ref-{name}",
        version=1,
        media_id=f"media-{name}",
        transcription_id=f"transcription-{name}",
        backfill="q3",
        segments=tuple(Segment(text, 0.9, f"S{n}", n * 10.0, n * 10.0 + 9) for n, text in enumerate(texts)),
        languages=("en-US",),
        confidence=0.9,
        duration_seconds=60.5,
        redacted=True,
        started_at=NOON + 10,
        completed_at=NOON + 40,
        created_at=NOON,
        indexed_at=NOON + 50,
        latency_seconds=30.0,
    )
    return replace(made, **other)


def names(results: Results) -> list[str]:
    return [hit.ref.removeprefix("ref-") for hit in results.hits]


def found(index: SearchIndex, text: str, **filters: Any) -> list[str]:
    return names(index.search(parse(text, **filters)))
