"""Transcripts as long as those of real calls, in three languages, the same in each run."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from workers.model import Segment
from workers.search.documents import Document

SEGMENTS: Final = 98
WORDS: Final = 14
#: Of each language; a call is put together from these.
SENTENCES: Final = 4_000
VOCABULARY: Final = 20_000
#: 1 January 2026; a transcript each second.
FIRST: Final = 1_767_225_600.0

_SYLLABLES: Final = {
    "en-US": ["re", "con", "ter", "ing", "al", "est", "port", "der", "ment", "sa", "li", "to", "ack", "un", "ful"],
    "es-ES": ["ción", "par", "re", "do", "más", "tra", "ble", "ñor", "lle", "que", "mi", "ra", "to", "des", "ía"],
    "ja-JP": list(
        "電話注文返金確認住所名前商品配送日時担当者様会社部署番号入力画面料金支払方法連絡先のにをはがでもとしてますか"
    ),
}


@dataclass(frozen=True, slots=True)
class Language:
    """Words from the most to the least frequent, and segments made of them."""

    tag: str
    words: list[str]
    segments: list[Segment]


def languages() -> list[Language]:
    """What all transcripts are made of; takes a second."""
    return [_language(tag, random.Random(tag)) for tag in _SYLLABLES]


def transcripts(spoken: list[Language], first: int, number: int) -> Iterator[Document]:
    """So many transcripts, from this one on; each says `rare` with its number once."""
    for one in range(first, first + number):
        chance = random.Random(one)
        language = spoken[one % len(spoken)]
        segments = [*chance.choices(language.segments, k=SEGMENTS - 1), Segment(f"rare{one}", 0.5)]
        yield Document(
            ref=f"{one:032x}",
            version=1,
            media_id=f"media-{one}",
            transcription_id=f"transcription-{one}",
            backfill="bench",
            segments=tuple(segments),
            languages=(language.tag,),
            confidence=chance.uniform(0.5, 1),
            duration_seconds=chance.uniform(30, 1_800),
            redacted=one % 2 == 0,
            started_at=FIRST + one,
            completed_at=FIRST + one + 60,
            created_at=FIRST + one,
            indexed_at=FIRST + one + 70,
            latency_seconds=60.0,
        )


def _language(tag: str, chance: random.Random) -> Language:
    syllables = _SYLLABLES[tag]
    most = 3 if tag == "ja-JP" else 4
    seen: dict[str, None] = {}
    while len(seen) < VOCABULARY:
        seen["".join(chance.choices(syllables, k=chance.randint(1, most)))] = None
    words = list(seen)
    # The n-th word is said 1/n times as often as the first, as in every language.
    weights = [1 / place for place in range(1, VOCABULARY + 1)]
    between = "" if tag == "ja-JP" else " "
    spoken = chance.choices(words, weights, k=SENTENCES * WORDS)
    texts = (between.join(spoken[start : start + WORDS]) for start in range(0, len(spoken), WORDS))
    segments = [
        Segment(
            text, round(chance.uniform(0.5, 1), 2), chance.choice(["agent", "customer"]), place * 6.0, place * 6.0 + 5
        )
        for place, text in enumerate(texts)
    ]
    return Language(tag, words, segments)
