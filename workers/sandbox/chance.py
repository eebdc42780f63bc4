"""Chance that repeats: the same draws for the same seed and subject, in every process."""

import random


def seeded(*parts: object) -> random.Random:
    """A generator that depends on nothing but `parts`."""
    return random.Random(":".join(map(str, parts)))
