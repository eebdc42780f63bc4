"""The states of a recording, their named sets, and the one table of what may follow what."""

from collections.abc import Mapping
from typing import Final

from workers.errors import TransitionNotAllowed
from workers.model import State

__all__ = [
    "ACTIVE",
    "BEFORE_COMPLETED",
    "FORGETTABLE",
    "NEEDS_PERSON",
    "SWEPT",
    "TERMINAL",
    "TRANSITIONS",
    "UNSUBMITTED",
    "WITH_REASONS",
    "State",
    "check_transition",
]

#: Something is still to be done by us; each has a `due_at`.
ACTIVE: Final = frozenset(
    {
        State.PENDING,
        State.QUEUED,
        State.VALIDATED,
        State.SUBMITTING,
        State.UNKNOWN,
        State.TRANSCRIBING,
        State.COMPLETED,
    }
)
#: Nothing is paid for yet, as far as the ledger knows: what stops when a backfill is cancelled.
UNSUBMITTED: Final = frozenset({State.PENDING, State.QUEUED, State.VALIDATED})
#: Active and handed out: what the sweep looks at when `due_at` has passed. The pump looks after `pending`.
SWEPT: Final = ACTIVE - {State.PENDING}
#: Nothing follows unless a person or an event wants it.
TERMINAL: Final = frozenset({State.INDEXED, State.REJECTED, State.FAILED, State.CANCELLED, State.FORGOTTEN})
#: A person decides.
NEEDS_PERSON: Final = frozenset({State.PARKED})
#: Ended other than it should, or may have: counted and shown by reason.
WITH_REASONS: Final = frozenset({State.REJECTED, State.FAILED, State.PARKED, State.CANCELLED})
#: An event with a valid token proves acceptance from each of these.
BEFORE_COMPLETED: Final = frozenset(State) - {State.TRANSCRIBING, State.COMPLETED, State.INDEXED, State.FORGOTTEN}
#: Can be forgotten at once. A POST that may be on its way has to be answered first: in 90 s at most it is.
FORGETTABLE: Final = frozenset(State) - {State.SUBMITTING, State.FORGOTTEN}

_DECIDED: Final[Mapping[State, frozenset[State]]] = {
    State.PENDING: frozenset({State.QUEUED, State.CANCELLED}),
    State.QUEUED: frozenset({State.VALIDATED, State.REJECTED, State.FAILED, State.PENDING, State.CANCELLED}),
    State.VALIDATED: frozenset({State.SUBMITTING, State.PENDING, State.FAILED, State.CANCELLED}),
    State.SUBMITTING: frozenset({State.TRANSCRIBING, State.VALIDATED, State.FAILED, State.UNKNOWN}),
    State.UNKNOWN: frozenset({State.TRANSCRIBING, State.VALIDATED, State.PARKED}),
    State.PARKED: frozenset({State.TRANSCRIBING, State.VALIDATED, State.FAILED, State.CANCELLED}),
    State.TRANSCRIBING: frozenset({State.COMPLETED, State.FAILED, State.PARKED}),
    State.COMPLETED: frozenset({State.INDEXED}),
    State.INDEXED: frozenset(),
    State.REJECTED: frozenset({State.PENDING, State.CANCELLED}),
    State.FAILED: frozenset({State.PENDING, State.CANCELLED}),
    State.CANCELLED: frozenset({State.PENDING}),
    State.FORGOTTEN: frozenset(),
}


def _following(state: State) -> frozenset[State]:
    """What we may decide, what an event may prove, and what may be asked of us."""
    proved = {State.TRANSCRIBING} if state in BEFORE_COMPLETED else set()
    asked = {State.FORGOTTEN} if state in FORGETTABLE else set()
    return _DECIDED[state] | proved | asked


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {state: _following(state) for state in State}


def check_transition(before: State, after: State) -> None:
    """Raises TransitionNotAllowed when TRANSITIONS does not have it: a bug of the caller."""
    if after not in TRANSITIONS[before]:
        raise TransitionNotAllowed(f"A recording can't go from {before} to {after}.")
