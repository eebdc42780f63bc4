"""What a search answers, the same from every index."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """One document that was found, best or newest first.

    `score`: higher is better, comparable within one answer only, 0 when the query has no word to find.
    `highlights`: the found words in `snippet`, each from its first character to before its last (offsets).
    `position_seconds` and `speaker` belong to the segment in which the first highlighted word of the snippet is.
    """

    ref: str
    media_id: str
    transcription_id: str
    backfill: str
    score: float
    snippet: str
    highlights: tuple[tuple[int, int], ...]
    position_seconds: float | None
    speaker: str | None
    confidence: float | None
    languages: tuple[str, ...]
    duration_seconds: float | None
    redacted: bool | None
    created_at: float
    completed_at: float | None

    def marked(self, before: str = "<<", after: str = ">>") -> str:
        """The snippet with each highlight between two marks."""
        parts, end = [], 0
        for first, last in self.highlights:
            parts += [self.snippet[end:first], before, self.snippet[first:last], after]
            end = last
        return "".join([*parts, self.snippet[end:]])


@dataclass(frozen=True, slots=True)
class Results:
    """One page of hits, and how many there are in all.

    Without `total_is_exact` there are more than `total`, which is then a round number. Without `ranked_all` only the
    newest matches were ranked, so a better hit among the older ones may be missing.
    """

    total: int
    total_is_exact: bool
    ranked_all: bool
    hits: tuple[Hit, ...]
