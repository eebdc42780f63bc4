"""One call under a permit: what its outcome tells the whole fleet."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from workers.errors import (
    ApiError,
    ApiRateLimited,
    ApiUnavailable,
    ApiUnreachable,
    LimiterUnavailable,
    OutcomeUnknown,
)
from workers.limits.limiter import REJECTED, Limiter, Permit
from workers.model import CallClass, Lane

log = structlog.get_logger(__name__)

#: A 429 that names no delay waits full jitter over 1, 2, 4 ... of these seconds.
LONGEST_GUESS_SECONDS: Final = 60.0


class NotCalled(Exception):
    """Raised in a permitted block that ends before it called: the slot may go to somebody else."""


@contextmanager
def permitted(
    limiter: Limiter, call_class: CallClass, *, lane: Lane = Lane.BACKFILL, max_wait_seconds: float = 60.0
) -> Iterator[Permit]:
    """Waits for leave to make one call, and learns from how the block ends.

    A 429 closes the gate of the class for as long as the API said, calls that fail close it for 1, 2, 4 ... seconds.
    A canary whose block ends for another reason than the API's is followed by another one at once.
    Raises RateLimited or LimiterUnavailable before the block, and what the block raises.
    """
    permit = limiter.acquire(call_class, lane=lane, max_wait_seconds=max_wait_seconds)
    try:
        yield permit
    except NotCalled:
        limiter.give_back(permit)
        raise
    except ApiRateLimited as error:
        error.retry_after_seconds = _delay(limiter, call_class, error)
        limiter.close_gate(call_class, error.retry_after_seconds, REJECTED, permit)
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
        if permit.canary:  # the ledger was away, say, which tells nothing of the API: the others need not wait
            limiter.give_back(permit)
        raise
    limiter.settle(permit, ok=True)


def _delay(limiter: Limiter, call_class: CallClass, error: ApiRateLimited) -> float:
    """What the API said, else full jitter that doubles with the 429s of the last minute."""
    if error.retry_after_seconds is not None:
        return error.retry_after_seconds
    rejected = 0
    with suppress(LimiterUnavailable):
        rejected = limiter.snapshot(call_class).rejected_last_minute
    return random.uniform(0.5, min(LONGEST_GUESS_SECONDS, 2.0 ** min(rejected + 1, 6)))  # noqa: S311 jitter
