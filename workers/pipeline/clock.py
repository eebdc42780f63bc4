"""Moments, as Unix seconds."""

import time
from typing import Final

#: The moment of something that is to be done at once.
NOW: Final = 0.0


def after(seconds: float) -> float:
    """The moment that many seconds from now."""
    return time.time() + seconds
