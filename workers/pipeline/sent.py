"""A request under way, and what is written down when it has ended."""

from dataclasses import dataclass, field

from sqlalchemy import Connection

from workers.errors import ApiError
from workers.ledger import spending, submissions


@dataclass(frozen=True, slots=True)
class Sent:
    """A submission under way; `callback_uri` is a secret, None when the API can't reach us.

    `counted_at` is the epoch under which it counts against a cap, None when its backfill never had one.
    """

    submission_id: int
    callback_ref: str
    callback_uri: str | None = field(repr=False)
    counted_at: int | None = None


def settle(tx: Connection, sent: Sent, outcome: str, error: ApiError) -> submissions.Submission:
    """Records how a request ended; what was surely not accepted counts against no cap any more."""
    settled = submissions.settle(
        tx, sent.submission_id, outcome, http_status=error.status, correlation_id=error.correlation_id
    )
    surely_not = outcome in (submissions.NOT_SENT, submissions.REFUSED) and settled.outcome != submissions.ACCEPTED
    if surely_not and sent.counted_at is not None:
        spending.give_back(tx, settled.recording_id, sent.counted_at)
    return settled
