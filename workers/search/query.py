"""The one query language, parsed here and compiled by each index: no user text reaches an engine's own syntax."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict, Unpack

from workers.errors import InputError
from workers.search.words import ends_in_word, words

SORTS: Final = ("relevance", "newest")
MAX_SIZE = 100
MAX_REACH = 5_000  # hits that can be paged through: an index ranks no more than these
MAX_CHARACTERS = 1_000
MAX_TERMS = 32
LAST_SECOND = 253_402_300_799  # the end of the year 9999

_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»「」『』＂", '"'))
_CHUNK = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)(?:"|$)|(?P<word>[^\s"]+))')
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class Term:
    """Words that must stand side by side (one, mostly); with `prefix` the last is only the beginning of a word.

    `tokens` are folded as `words` does it, `text` is what the user wrote, for an engine that folds by itself.
    """

    text: str
    tokens: tuple[str, ...]
    prefix: bool = False
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What to find; raises InputError, one sentence, when a value can't be.

    All wanted terms and none of the excluded must occur. `languages`: any of them, in whatever case, `en` also
    finds `en-US`. `since` and `until`: Unix seconds at which the recording was asked for, whole seconds, both included.
    Durations are seconds, both included. What a recording lacks, such as its duration, no filter on it finds.
    """

    terms: tuple[Term, ...] = ()
    languages: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    min_confidence: float | None = None
    min_duration: float | None = None
    max_duration: float | None = None
    redacted: bool | None = None
    media_id: str | None = None
    backfill: str | None = None
    sort: str = "relevance"
    size: int = 10
    offset: int = 0

    def __post_init__(self) -> None:
        self._check_terms()
        _check_languages(self.languages)
        _check_time("since", self.since)
        _check_time("until", self.until)
        if self.since is not None and self.until is not None and self.since > self.until:
            raise InputError(f"since ({self.since:.0f}) is after until ({self.until:.0f}): swap them.")
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise InputError(f"min_confidence is {self.min_confidence}: give a number from 0 to 1, such as 0.8.")
        self._check_durations()
        _check_id("media_id", self.media_id)
        _check_id("backfill", self.backfill)
        if self.sort not in SORTS:
            raise InputError(f"sort is {self.sort[:80]!r}: give {' or '.join(SORTS)}.")
        self._check_page()

    @property
    def wanted(self) -> tuple[Term, ...]:
        return tuple(term for term in self.terms if not term.excluded)

    @property
    def excluded(self) -> tuple[Term, ...]:
        return tuple(term for term in self.terms if term.excluded)

    def _has_filter(self) -> bool:
        times = (self.since, self.until, self.min_duration, self.max_duration)
        others = (self.min_confidence, self.redacted, self.media_id, self.backfill)
        return bool(self.languages) or any(value is not None for value in (*times, *others))

    def _check_terms(self) -> None:
        if not self.wanted and not self._has_filter():
            raise InputError(
                'The query has nothing to find: give a word, a "phrase" or a filter such as a language or a media id.'
            )
        if len(self.terms) > MAX_TERMS:
            raise InputError(f"The query has {len(self.terms)} terms: give at most {MAX_TERMS}.")
        for term in self.terms:
            if term.prefix and term.tokens[-1].isascii() and len(term.tokens[-1]) < 2:
                raise InputError(f"{term.text!r} would find nearly everything: give at least two letters before the *.")

    def _check_durations(self) -> None:
        for name, value in (("min_duration", self.min_duration), ("max_duration", self.max_duration)):
            if value is not None and not 0 <= value <= LAST_SECOND:
                raise InputError(f"{name} is {value}: give seconds, 0 or more.")
        shortest, longest = self.min_duration, self.max_duration
        if shortest is not None and longest is not None and shortest > longest:
            raise InputError(f"min_duration ({shortest:g} s) is more than max_duration ({longest:g} s): swap them.")

    def _check_page(self) -> None:
        if not 1 <= self.size <= MAX_SIZE:
            raise InputError(f"size is {self.size}: give a number from 1 to {MAX_SIZE}.")
        if not 0 <= self.offset <= MAX_REACH - self.size:
            raise InputError(
                f"offset is {self.offset}: only the first {MAX_REACH} hits can be paged through, so narrow the query, "
                "by dates for instance."
            )


class Filters(TypedDict, total=False):
    """The fields of Query beside the terms; None and empty ones don't filter."""

    languages: Sequence[str] | None
    since: float | None
    until: float | None
    min_confidence: float | None
    min_duration: float | None
    max_duration: float | None
    redacted: bool | None
    media_id: str | None
    backfill: str | None
    sort: str | None
    size: int | None
    offset: int | None


def parse(text: str, **filters: Unpack[Filters]) -> Query:
    """The query for what a user typed: words, "phrases", prefix*, -excluded; anything else separates words.

    Raises InputError, one sentence, for what can't be searched.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"The query has {len(text)} characters: give at most {MAX_CHARACTERS}.")
    terms = (_term(chunk) for chunk in _CHUNK.finditer(text.translate(_QUOTES)))
    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None and value != ""}
    given["languages"] = tuple(filters.get("languages") or ())
    return Query(terms=tuple(dict.fromkeys(term for term in terms if term.tokens)), **given)


def _term(chunk: re.Match[str]) -> Term:
    """Several words in one chunk (e-mail, 東京) stay together: they are a phrase."""
    written = chunk["phrase"] if chunk["phrase"] is not None else chunk["word"]
    bare = written.rstrip("*")
    return Term(
        text=written,
        tokens=tuple(word.token for word in words(bare)),
        prefix=bare != written and ends_in_word(bare),
        excluded=chunk["minus"] is not None,
    )


def _check_languages(languages: Sequence[str]) -> None:
    for language in languages:
        if not _LANGUAGE.fullmatch(language):
            raise InputError(f"languages has {language[:80]!r}: give BCP 47 tags, such as en-US or es.")


def _check_time(name: str, seconds: float | None) -> None:
    if seconds is not None and not 0 <= seconds <= LAST_SECOND:
        raise InputError(f"{name} is {seconds}: give Unix seconds from 0 to {LAST_SECOND}.")


def _check_id(name: str, value: str | None) -> None:
    if value is not None and not (1 <= len(value) <= 128 and value.isprintable() and " " not in value):
        raise InputError(f"{name} is {value[:80]!r}: give 1 to 128 printable characters without spaces.")
