"""How a query becomes SQL and an FTS5 expression."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from workers.search.query import LAST_SECOND, MAX_REACH, Query, Term
from workers.search.sqlite_write import IDS_A_SECOND, first_id

MAX_COUNTED = 10_000
_ROUNDING = 1e-9  # an average of equal confidences may be a hair below them


@dataclass(frozen=True, slots=True)
class Page:
    """The ids of one page with their scores, higher is better, and how many matches there are in all."""

    ranked: tuple[tuple[int, float], ...]
    total: int
    total_is_exact: bool
    ranked_all: bool


@dataclass(frozen=True, slots=True)
class _Matching:
    """The rest of a SELECT from FROM on, which finds the matches with `id` as their name, and its values."""

    sql: str
    values: tuple[str | float, ...]
    id: str
    score: str


def find(connection: sqlite3.Connection, query: Query) -> Page:
    """The page that the query asks for; to be called within a transaction, as it reads several times."""
    matching = _matching(connection, query)
    (total,) = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 {matching.sql} LIMIT ?)",  # noqa: S608 values are bound
        (*matching.values, MAX_COUNTED + 1),
    ).fetchone()
    newest = f"SELECT {matching.id} AS id, {matching.score} AS score {matching.sql} ORDER BY {matching.id} DESC"
    if query.sort == "newest" or not query.wanted:
        statement, values, ranked_all = f"{newest} LIMIT ? OFFSET ?", matching.values, True
    else:
        statement = f"SELECT id, score FROM ({newest} LIMIT ?) ORDER BY score DESC, id DESC LIMIT ? OFFSET ?"  # noqa: S608
        values, ranked_all = (*matching.values, MAX_REACH), total <= MAX_REACH
    rows = connection.execute(statement, (*values, query.size, query.offset)).fetchall()
    return Page(tuple(rows), min(total, MAX_COUNTED), total <= MAX_COUNTED, ranked_all)


def _matching(connection: sqlite3.Connection, query: Query) -> _Matching:
    conditions, values = _filters(query)
    lowest, highest = _ids(connection, query)
    if not query.wanted:
        conditions.append("documents.id BETWEEN ? AND ?")
        values += [lowest, highest]
        if query.excluded:
            conditions.append("documents.id NOT IN (SELECT rowid FROM words WHERE words MATCH ?)")
            values.append(_any_of(query.excluded))
        return _Matching(f"FROM documents WHERE {' AND '.join(conditions)}", tuple(values), "documents.id", "0.0")
    # CROSS JOIN keeps the order of the tables: matches come newest first and only as many as are needed.
    tables = "words CROSS JOIN documents ON documents.id = words.rowid" if conditions else "words"
    conditions = ["words MATCH ?", "words.rowid BETWEEN ? AND ?", *conditions]
    sql = f"FROM {tables} WHERE {' AND '.join(conditions)}"
    return _Matching(sql, (_expression(query), lowest, highest, *values), "words.rowid", "-bm25(words)")


def _ids(connection: sqlite3.Connection, query: Query) -> tuple[int, int]:
    """The smallest and largest id that can match."""
    lowest = first_id(query.since or 0)
    highest = first_id(LAST_SECOND if query.until is None else query.until) + IDS_A_SECOND - 1
    if query.media_id is not None:
        first, last = connection.execute(
            "SELECT min(id), max(id) FROM documents WHERE media_id = ?", (query.media_id,)
        ).fetchone()
        return (max(lowest, first), min(highest, last)) if first is not None else (1, 0)
    return lowest, highest


def _filters(query: Query) -> tuple[list[str], list[str | float]]:
    conditions: list[str] = []
    values: list[str | float] = []
    if query.languages:
        # A tag stands between commas; one with regions or scripts after it goes on with a hyphen.
        either = " OR ".join(["instr(languages, ?) OR instr(languages, ?)"] * len(query.languages))
        conditions.append(f"({either})")
        values += [f",{language.lower()}{end}" for language in query.languages for end in ",-"]
    if query.min_confidence is not None:
        conditions.append("confidence >= ?")
        values.append(query.min_confidence - _ROUNDING)
    exactly = (("media_id = ?", query.media_id), ("backfill = ?", query.backfill), ("redacted = ?", query.redacted))
    between = (("duration >= ?", query.min_duration), ("duration <= ?", query.max_duration))
    for condition, value in (*exactly, *between):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    return conditions, values


def _expression(query: Query) -> str:
    """What follows MATCH: made of quoted words only, so that nothing in it is FTS5 syntax but ours."""
    wanted = " AND ".join(_quoted(term) for term in query.wanted)
    return f"({wanted}) NOT ({_any_of(query.excluded)})" if query.excluded else wanted


def _any_of(terms: Sequence[Term]) -> str:
    return " OR ".join(_quoted(term) for term in terms)


def _quoted(term: Term) -> str:
    phrase = " ".join(term.tokens).replace('"', '""')
    return f'"{phrase}"{" *" if term.prefix else ""}'
