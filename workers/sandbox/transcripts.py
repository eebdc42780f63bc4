"""Plausible call-centre talk, the same for the same seed and media id."""

import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from workers.sandbox.chance import seeded

WORDS_A_MINUTE = 150
WORDS_A_SEGMENT = 11
# Longer calls get longer pauses instead of more text: a transcript stays cheap to make, send and store.
MAX_SEGMENTS = 60
SPEAKERS = ("agent", "customer")
# The share of its slot that a segment fills; the rest is the pause before the next speaker.
SPOKEN_SHARE = 0.92
REDACTED = "[redacted]"


def transcript(
    seed: int,
    media_id: str,
    duration_seconds: float,
    languages: tuple[str, ...],
    *,
    redacted: bool,
    with_speakers: bool,
) -> list[dict[str, Any]]:
    """The segments as they go over the wire, in the first of `languages` that we have words for, else in English."""
    rng = seeded(seed, media_id)
    language = next((tag for tag in languages if _primary(tag) in _phrases()), "en-US")
    words_spoken = duration_seconds / 60 * WORDS_A_MINUTE
    pairs = min(max(round(words_spoken / WORDS_A_SEGMENT / 2), 2), MAX_SEGMENTS // 2)
    texts = [_filled(line, rng, _primary(language), redacted=redacted) for line in _lines(rng, language, pairs)]
    milliseconds_a_letter = duration_seconds * 1000 / sum(map(len, texts))
    segments: list[dict[str, Any]] = []
    start = 0.0
    for index, text in enumerate(texts):
        length = len(text) * milliseconds_a_letter
        segment = {
            "text": text,
            "confidence": round(rng.uniform(0.60, 0.99), 3),
            "startMs": int(start),
            "endMs": int(start + length * SPOKEN_SHARE),
            "language": language,
        }
        if with_speakers:
            segment["speaker"] = SPEAKERS[index % 2]
        segments.append(segment)
        start += length
    return segments


def _lines(rng: random.Random, language: str, pairs: int) -> list[str]:
    """What agent and customer say in turn: a greeting, one topic after the other, a closing."""
    phrases = _phrases()[_primary(language)]
    exchanges = _exchanges(rng, phrases)
    body = [line for _, exchange in zip(range(pairs - 1), exchanges, strict=False) for line in exchange]
    return [*body, *rng.choice(phrases["closing"])]


def _exchanges(rng: random.Random, phrases: dict[str, Any]) -> Iterator[tuple[str, str]]:
    topics = list(phrases["topics"].values())
    rng.shuffle(topics)
    holding = rng.sample(phrases["holding"], len(phrases["holding"]))
    lead = rng.choice(phrases["greetings"])
    for number, (opening, *talk) in enumerate(topics):
        yield lead, opening
        for agent, customer in talk:
            yield agent, customer
        agent, customer = holding[number % len(holding)]
        yield agent, customer
        lead = rng.choice(phrases["more"])


def _filled(line: str, rng: random.Random, language: str, *, redacted: bool) -> str:
    if "{" not in line:
        return line
    phrases = _phrases()[language]
    name, number = rng.choice(phrases["names"]), f"{rng.randrange(10_000, 1_000_000)}"
    return line.format(
        name=REDACTED if redacted else name,
        number=REDACTED if redacted else number,
        amount=rng.choice(phrases["amounts"]),
        day=rng.choice(phrases["days"]),
    )


def _primary(tag: str) -> str:
    return tag.split("-", 1)[0].lower()


@cache
def _phrases() -> dict[str, dict[str, Any]]:
    phrases: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("phrases.json").read_bytes())
    return phrases
