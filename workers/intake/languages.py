"""Checks language tags against the grammar of BCP 47 and puts them into its customary case."""

import re
from functools import lru_cache
from typing import Final

MAX_LANGUAGES: Final = 10
MAX_TAG_LENGTH: Final = 80

# RFC 5646 section 2.1. Left out: tags without a language (x-...) and the grandfathered ones that break the grammar
# (i-klingon, en-GB-oed), all of which have modern replacements.
_TAG: Final = re.compile(
    r"""
    (?: [a-z]{2,3} (?:-[a-z]{3}){0,3} | [a-z]{4,8} )    # language with extended subtags
    (?: -[a-z]{4} )?                                    # script
    (?: -(?: [a-z]{2} | [0-9]{3} ) )?                   # region
    (?: -(?: [a-z0-9]{5,8} | [0-9][a-z0-9]{3} ) )*      # variants
    (?: -[a-wyz0-9] (?:-[a-z0-9]{2,8})+ )*              # extensions
    (?: -x (?:-[a-z0-9]{1,8})+ )?                       # private use
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


@lru_cache(maxsize=1024)
def normal_languages(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tags in customary case (en-us becomes en-US), each once, in order of first mention.

    Raises ValueError whose argument is the first tag that is not well-formed. Well-formed says nothing about whether
    such a language exists or is transcribed.
    """
    return tuple(dict.fromkeys(_normal(tag) for tag in tags))


def _normal(tag: str) -> str:
    if len(tag) > MAX_TAG_LENGTH or not _TAG.fullmatch(tag):
        raise ValueError(tag)
    first, *rest = tag.lower().split("-")
    # RFC 5646 section 2.1.1: what follows a singleton (an extension, private use) stays in lower case.
    plain = next((at for at, subtag in enumerate(rest) if len(subtag) == 1), len(rest))
    return "-".join([first, *map(_cased, rest[:plain]), *rest[plain:]])


def _cased(subtag: str) -> str:
    if len(subtag) == 2:
        return subtag.upper()
    return subtag.capitalize() if len(subtag) == 4 and subtag.isalpha() else subtag
