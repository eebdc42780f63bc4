"""What of a backfill did not end as it should, by reason, with examples and the command to do something about it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from workers.ledger import backfills, funnel, submissions
from workers.model import Reason, State

#: Parked for these, a recording is left alone by `resolve --resubmit` unless it is to be paid for again.
_PAID_AGAIN: Final = frozenset({Reason.OVERDUE, Reason.REPEAT_IMPOSSIBLE})


@dataclass(frozen=True, slots=True)
class Failure:
    """How many recordings are in a state for a reason, None without one; `media_ids` are the oldest few of them.

    `command` has them begin anew or, when they are parked, decides about them.
    """

    state: State
    reason: str | None
    number: int
    media_ids: tuple[str, ...]
    command: str

    def as_json(self) -> dict[str, Any]:
        """The stable form of an entry of `examples` in `retroscribe status --json`."""
        return {
            "state": str(self.state),
            "reason": self.reason,
            "count": self.number,
            "media_ids": list(self.media_ids),
            "command": self.command,
        }


def failures(tx: Connection, backfill: backfills.Backfill, counts: funnel.Funnel) -> list[Failure]:
    """What is rejected, failed, parked or cancelled of the backfill, in the order of states, then of reasons."""
    found = []
    for state in State:
        for reason, number in sorted(counts.reasons.get(state, {}).items(), key=lambda pair: pair[0] or ""):
            some = funnel.examples(tx, backfill.id, state, reason)
            command = _command(tx, backfill.name, state, reason, list(some))
            found.append(Failure(state, reason, number, tuple(some.values()), command))
    return found


def _command(tx: Connection, name: str, state: State, reason: str | None, ids: Collection[int]) -> str:
    why = f" --reason {reason}" if reason else ""
    if state == State.PARKED:
        return f"retroscribe resolve {name}{why} --resubmit{' --pay-again' if reason in _PAID_AGAIN else ''}"
    which = "" if state == State.FAILED else f" --state {state}"
    # While one of them begins anew without it, nobody is told to pay again.
    again = submissions.perhaps_accepted_among(tx, ids) == set(ids)
    return f"retroscribe retry {name}{which}{why}{' --pay-again' if again else ''}"
