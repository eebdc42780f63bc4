"""How a query becomes the body of a search request; no text of a user's is query syntax in it."""

import math
from typing import Any, Final

from workers.search.query import Query, Term

#: Totals are counted up to here.
MAX_COUNTED: Final = 10_000
#: Words that the last one of a phrase may begin; clusters refuse more than 1,024 clauses.
MAX_EXPANSIONS: Final = 500
_ROUNDING: Final = 1e-9  # an average of equal confidences may be a hair below them
_NEWEST: Final = [{"createdAt": "desc"}, {"ref": "asc"}]

Clause = dict[str, Any]


def search_body(query: Query) -> dict[str, Any]:
    """What finds the page that the query asks for."""
    by_score = query.wanted and query.sort == "relevance"
    return {
        "query": {
            "bool": {
                "must": [_clause(term) for term in query.wanted],
                "must_not": [_clause(term) for term in query.excluded],
                "filter": _filters(query) or [{"match_all": {}}],
            }
        },
        "sort": [{"_score": "desc"}, *_NEWEST] if by_score else _NEWEST,
        "track_scores": bool(query.wanted),
        "track_total_hits": MAX_COUNTED + 1,
        "from": query.offset,
        "size": query.size,
    }


def _clause(term: Term) -> Clause:
    words = " ".join(term.tokens)
    if not term.prefix:
        return {"match_phrase": {"words": {"query": words}}}
    if len(term.tokens) == 1:
        return {"prefix": {"words": {"value": words}}}
    return {"match_phrase_prefix": {"words": {"query": words, "max_expansions": MAX_EXPANSIONS}}}


def _filters(query: Query) -> list[Clause]:
    ranges = {
        "createdAt": _milliseconds(query.since, query.until),
        "confidence": {"gte": None if query.min_confidence is None else query.min_confidence - _ROUNDING},
        "duration": {"gte": query.min_duration, "lte": query.max_duration},
    }
    terms = {"mediaReference": query.media_id, "backfill": query.backfill, "redacted": query.redacted}
    clauses: list[Clause] = [{"term": {name: value}} for name, value in terms.items() if value is not None]
    for name, bounds in ranges.items():
        given = {bound: value for bound, value in bounds.items() if value is not None}
        if given.keys() - {"format"}:
            clauses.append({"range": {name: given}})
    if query.languages:
        clauses.append(_any_language(query.languages))
    return clauses


def _milliseconds(since: float | None, until: float | None) -> dict[str, Any]:
    """Whole seconds, both included."""
    return {
        "gte": None if since is None else math.floor(since) * 1000,
        "lt": None if until is None else (math.floor(until) + 1) * 1000,
        "format": "epoch_millis",
    }


def _any_language(languages: tuple[str, ...]) -> Clause:
    """A tag itself, or one that goes on with a region or a script."""
    tags = [language.lower() for language in languages]
    either: list[Clause] = [{"term": {"languages": tag}} for tag in tags]
    either += [{"prefix": {"languages": {"value": f"{tag}-"}}} for tag in tags]
    return {"bool": {"should": either, "minimum_should_match": 1}}
