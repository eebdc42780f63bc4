"""The piece of a document that shows why it was found: cut and marked here, so that every index shows the same."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from workers.search.documents import Document
from workers.search.query import Query, Term
from workers.search.results import Hit
from workers.search.words import Word, words

WIDTH = 160  # characters
_LONGEST = 400  # where a single word or phrase is longer than the width

_LINE_BREAKS = str.maketrans(dict.fromkeys("\n\r\t\v\f\x85\u2028\u2029", " "))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A piece of text, the offsets of the found words in it, and when and by whom it was said."""

    text: str
    highlights: tuple[tuple[int, int], ...]
    position_seconds: float | None
    speaker: str | None


def hit_of(document: Document, query: Query, score: float) -> Hit:
    """A document that was found, with the piece that shows why."""
    shown = excerpt(document, query.wanted)
    return Hit(
        ref=document.ref,
        media_id=document.media_id,
        transcription_id=document.transcription_id,
        backfill=document.backfill,
        score=score,
        snippet=shown.text,
        highlights=shown.highlights,
        position_seconds=shown.position_seconds,
        speaker=shown.speaker,
        confidence=document.confidence,
        languages=document.languages,
        duration_seconds=document.duration_seconds,
        redacted=document.redacted,
        created_at=document.created_at,
        completed_at=document.completed_at,
    )


class _Match(NamedTuple):
    start: int
    end: int
    term: int


def excerpt(document: Document, terms: Sequence[Term]) -> Excerpt:
    """The place with the most different terms close together, the earliest of equals; else the beginning."""
    text = document.text
    cut = list(words(text))
    matches = sorted(_matches(cut, terms))
    best = _densest(matches)
    start, end = _bounds(text, cut, best)
    before, after = "…" if start > 0 else "", "…" if end < len(text) else ""
    shift = len(before) - start
    shown = [(match.start + shift, min(match.end, end) + shift) for match in matches if start <= match.start < end]
    position, speaker = _spoken(document, best[0].start if best else 0)
    return Excerpt(
        text=before + text[start:end].translate(_LINE_BREAKS) + after,
        highlights=tuple(_merged(shown)),
        position_seconds=position,
        speaker=speaker,
    )


def _matches(cut: Sequence[Word], terms: Sequence[Term]) -> Iterator[_Match]:
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(cut):
        places[word.token].append(place)
    for number, term in enumerate(terms):
        for first in _beginnings(places, term):
            last = first + len(term.tokens) - 1
            if last < len(cut) and _fits(cut[first : last + 1], term):
                yield _Match(cut[first].start, cut[last].end, number)


def _beginnings(places: dict[str, list[int]], term: Term) -> list[int]:
    """Where the term's first word stands."""
    first = term.tokens[0]
    if term.prefix and len(term.tokens) == 1:
        return [place for token, found in places.items() if token.startswith(first) for place in found]
    return places.get(first, [])


def _fits(cut: Sequence[Word], term: Term) -> bool:
    *whole, last = term.tokens
    found = [word.token for word in cut]
    return found[:-1] == whole and (found[-1].startswith(last) if term.prefix else found[-1] == last)


def _densest(matches: Sequence[_Match]) -> Sequence[_Match]:
    """The matches within one width that cover the most terms, then the most words."""
    inside: Counter[int] = Counter()
    best, best_value, left = matches[:0], (0, 0), 0
    for right, match in enumerate(matches):
        inside[match.term] += 1
        while left < right and match.end - matches[left].start > WIDTH:
            inside[matches[left].term] -= 1
            if not inside[matches[left].term]:
                del inside[matches[left].term]
            left += 1
        value = (len(inside), right - left + 1)
        if value > best_value:
            best, best_value = matches[left : right + 1], value
    return best


def _bounds(text: str, cut: Sequence[Word], best: Sequence[_Match]) -> tuple[int, int]:
    """About one width around the matches, from the beginning of a word to the end of one."""
    first, last = (best[0].start, max(match.end for match in best)) if best else (0, 0)
    margin = max(0, WIDTH - (last - first)) // 2
    start = first
    if first <= margin:
        start = 0
    elif cut:
        start = cut[bisect_left(cut, first - margin, key=lambda word: word.start)].start
    reach = max(last, start + WIDTH)
    if reach >= len(text):
        return start, min(len(text), start + _LONGEST)
    whole = bisect_right(cut, reach, key=lambda word: word.end)
    end = cut[whole - 1].end if whole and cut[whole - 1].end > start else reach
    return start, min(end, start + _LONGEST)


def _merged(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Overlapping spans become one."""
    first, last = -1, -1
    for start, end in spans:
        if start < last:
            last = max(last, end)
            continue
        if first >= 0:
            yield first, last
        first, last = start, end
    if first >= 0:
        yield first, last


def _spoken(document: Document, offset: int) -> tuple[float | None, str | None]:
    """When and by whom the character at the offset of the document's text was said."""
    if not document.segments:
        return None, None
    lengths = (len(segment.text) + 1 for segment in document.segments[:-1])
    segment = document.segments[bisect_right(list(accumulate(lengths, initial=0)), offset) - 1]
    return segment.start_seconds, segment.speaker
