"""One call under a permit: what its outcome tells the whole fleet."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from workers.errors import ApiError, ApiRateLimited, ApiUnavailable, ApiUnreachable, OutcomeUnknown
from workers.limits.limiter import Limiter, Permit
from workers.model import CallClass, Lane

log = structlog.get_logger(__name__)

#: A 429 that names no delay waits full jitter over 1, 2, 4 ... of these seconds.
LONGEST_GUESS_SECONDS: Final = 60.0


@contextmanager
def permitted(limiter: Limiter, call_class: CallClass, *, lane: Lane = Lane.BACKFILL) -> Iterator[Permit]:
    """Waits for leave to make one call, and learns from how the block ends.

    A 429 closes the gate of the class for as long as the API said, a run of outages for 1, 2, 4 ... seconds; a block
    that ends without having called gives its slot back. Raises RateLimited or LimiterUnavailable before the block.
    """
    permit = limiter.acquire(call_class, lane=lane)
    try:
        yield permit
    except ApiRateLimited as error:
        if error.retry_after_seconds is None:
            rejected = min(limiter.snapshot(call_class).rejected_last_minute, 6)
            error.retry_after_seconds = random.uniform(0.5, min(LONGEST_GUESS_SECONDS, 2.0**rejected))  # noqa: S311
        limiter.close_gate(call_class, error.retry_after_seconds, "429")
        limiter.settle(permit, ok=True)
        log.warning("rate_limited", call_class=str(call_class), retry_after_seconds=round(error.retry_after_seconds, 2))
        raise
    except ApiUnreachable:
        limiter.settle(permit, ok=False, immediately=True)
        raise
    except (ApiUnavailable, OutcomeUnknown):
        limiter.settle(permit, ok=False)
        raise
    except ApiError:
        limiter.settle(permit, ok=True)
        raise
    except BaseException:
        limiter.give_back(permit)
        raise
    limiter.settle(permit, ok=True)
