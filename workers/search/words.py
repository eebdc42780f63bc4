"""How text becomes search words: one cut for indexing, for queries and for highlighting, whatever the engine's own."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

# To be raised whenever the same text would give other words: an index of another version is refused and rebuilt.
ANALYZER_VERSION = 1

_APOSTROPHES = "'\u2019\u02bc\uff07"

# Scripts written without spaces: each character is a word of its own, and a run of them in a query is a phrase.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # Japanese repetition mark and the like
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # small Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # Katakana of half width
    (0x20000, 0x3FFFF),  # rare Han
)

# Written or left out as one likes: accents, vowel points, the Arabic stretcher, emoji variants. The marks of the
# Indic scripts are not among them: there they are vowels.
_OPTIONAL = (
    (0x0300, 0x036F),
    (0x0591, 0x05C7),
    (0x0610, 0x061A),
    (0x0640, 0x0640),
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0xFE00, 0xFE0F),
)

_FIRST_EMOJI = 0x2600
_HALF_WIDTH_VOICING = (0xFF9E, 0xFF9F)


class Word(NamedTuple):
    """A word as the index knows it, and where it stands in the text."""

    token: str
    start: int
    end: int


class _Shapes(dict[int, str]):
    """What each character is: w in a word, c a word alone, m a mark on either, ' an apostrophe, else a space."""

    def __missing__(self, code: int) -> str:
        shape = self[code] = _shape(code)
        return shape


def _shape(code: int) -> str:
    category = unicodedata.category(chr(code))
    if chr(code) in _APOSTROPHES:
        return "'"
    if category[0] == "M" or code in _HALF_WIDTH_VOICING:
        return "m"
    if category[0] in "LN":
        return "c" if _within(code, _UNSPACED) else "w"
    return "c" if category == "So" and code >= _FIRST_EMOJI else " "


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


_SHAPES = _Shapes()
_WORD = re.compile("cm*|w[wm]*(?:'w[wm]*)*")


def words(text: str) -> Iterator[Word]:
    """The words of a text in order; none for a text of signs and spaces only."""
    for found in _WORD.finditer(text.translate(_SHAPES)):
        start, end = found.span()
        token = _folded(text[start:end])
        if token:
            yield Word(token, start, end)


def searchable(text: str) -> str:
    """The words joined by spaces, for an engine that cuts at spaces only; the same words as `words`, but faster."""
    spans = (found.span() for found in _WORD.finditer(text.translate(_SHAPES)))
    return " ".join([_folded(text[start:end]) for start, end in spans])


def ends_in_word(text: str) -> bool:
    """Whether the last character belongs to a word."""
    return text[-1:].translate(_SHAPES) in ("w", "c", "m")


@lru_cache(maxsize=16_384)
def _folded(word: str) -> str:
    """Without case, width, apostrophes and optional marks; may be empty."""
    if word.isascii():
        return word.replace("'", "").lower()
    characters = unicodedata.normalize("NFKD", word).casefold()
    kept = (c for c in characters if _SHAPES[ord(c)] in "wcm" and not _within(ord(c), _OPTIONAL))
    return unicodedata.normalize("NFC", "".join(kept))
