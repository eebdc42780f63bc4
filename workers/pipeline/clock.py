"""Moments, as Unix seconds."""

import time


def after(seconds: float) -> float:
    """The moment that many seconds from now."""
    return time.time() + seconds
