"""The made-up recordings: ids, properties and the manifest, all derived from a seed, so nothing is stored."""

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from uuid import UUID

from workers.sandbox.chance import seeded
from workers.sandbox.config import SandboxConfig

MAX_DURATION_SECONDS = 1800
MEDIAN_DURATION_SECONDS, DURATION_SIGMA = 282, 0.8
FORMATS = {"pcm": "wav", "mp3": "mp3", "opus": "ogg", "vorbis": "ogg", "webm": "webm"}
UNSUPPORTED_CODECS = ("g729", "amr", "gsm")
# The manifest's column: empty stands for the reader's default, which is en-US unless set.
LANGUAGES = {
    "": 60, "en-US": 10, "en-US;es-US": 5, "es-US": 12, "de-DE": 4, "ja-JP": 4, "es-ES": 3, "en-GB": 2,
}  # fmt: skip
BLOCK = 100
# An odd factor makes ordinal -> number a bijection on 32 bits, so an id can be led back to its ordinal.
_FACTOR, _MODULUS = 0x9E3779B1, 2**32
_INVERSE = pow(_FACTOR, -1, _MODULUS)


@dataclass(frozen=True, slots=True)
class CatalogueMedia:
    """One recording as the API knows it; `usable` says whether a transcription of it can succeed."""

    media_id: str
    format: str
    codec: str
    duration_seconds: float | None
    usable: bool


class Catalogue:
    """The `count` recordings of `seed`; the answers never change."""

    def __init__(self, seed: int, count: int) -> None:
        self._seed = seed
        self._count = count
        self._offset = int.from_bytes(blake2b(f"{seed}".encode(), digest_size=4).digest())
        self._oddities = lru_cache(maxsize=1024)(self._oddities_of_block)

    def media_ids(self) -> Iterator[str]:
        """Every id of the catalogue, those that are missing on purpose included."""
        return (self._media_id(ordinal) for ordinal in range(self._count))

    def media(self, media_id: str) -> CatalogueMedia | None:
        """What is known about the id; None when it is not of this catalogue, or missing on purpose."""
        ordinal = self._ordinal(media_id)
        if ordinal is None:
            return None
        oddity = self._oddities(ordinal // BLOCK).get(ordinal % BLOCK)
        if oddity == "missing":
            return None
        rng = seeded(self._seed, media_id, "media")
        codec = rng.choice(list(FORMATS))
        duration: float | None = _duration(rng, too_long=oddity == "too long")
        container = FORMATS[codec]
        if oddity == "unsupported":
            codec, container = rng.choice(UNSUPPORTED_CODECS), "wav"
        if oddity == "no duration":
            duration = None
        codec = rng.choice((codec.lower, codec.upper, codec.title))()
        return CatalogueMedia(media_id, container, codec, duration, usable=oddity is None)

    def languages(self, media_id: str) -> str:
        """The manifest's language column for the id."""
        rng = seeded(self._seed, media_id, "languages")
        return rng.choices(list(LANGUAGES), weights=list(LANGUAGES.values()))[0]

    def _media_id(self, ordinal: int) -> str:
        head = ((ordinal * _FACTOR + self._offset) % _MODULUS).to_bytes(4)
        tail = blake2b(f"{self._seed}:{ordinal}".encode(), digest_size=12).digest()
        return str(UUID(bytes=head + tail, version=4))

    def _ordinal(self, media_id: str) -> int | None:
        try:
            number = int(media_id[:8], 16)
        except ValueError:
            return None
        ordinal = (number - self._offset) * _INVERSE % _MODULUS
        return ordinal if ordinal < self._count and self._media_id(ordinal) == media_id else None

    def _oddities_of_block(self, block: int) -> dict[int, str]:
        """Which of a hundred recordings are odd, so that even small catalogues have one of each."""
        missing, too_long, unsupported, no_duration = seeded(self._seed, "block", block).sample(range(BLOCK), 4)
        odd = {missing: "missing", too_long: "too long", unsupported: "unsupported"}
        if block % 3 == 0:
            odd[no_duration] = "no duration"
        return odd


def manifest_ids(seed: int, count: int) -> list[str]:
    """The media ids of the catalogue, in the manifest's order."""
    return list(Catalogue(seed, count).media_ids())


def write_manifest(path: Path, config: SandboxConfig) -> None:
    """Writes the catalogue as CSV (media_id,languages): the same bytes for the same seed and count."""
    catalogue = Catalogue(config.seed, config.count)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("media_id", "languages"))
        writer.writerows((media_id, catalogue.languages(media_id)) for media_id in catalogue.media_ids())


def _duration(rng: random.Random, *, too_long: bool) -> float:
    if too_long:
        return round(MAX_DURATION_SECONDS + 1 + rng.expovariate(1 / 600), 1)
    drawn = MEDIAN_DURATION_SECONDS * rng.lognormvariate(0, DURATION_SIGMA)
    return round(min(max(drawn, 3.0), float(MAX_DURATION_SECONDS)), 1)
