"""The one table of what may follow what: closed, with every named set in its place."""

import pytest

from workers.errors import TransitionNotAllowed
from workers.ledger.states import (
    ACTIVE,
    BEFORE_COMPLETED,
    FORGETTABLE,
    NEEDS_PERSON,
    SWEPT,
    TERMINAL,
    TRANSITIONS,
    State,
    check_transition,
)

PAIRS = [(before, after) for before in State for after in State]
#: What we may decide; an event may lead to transcribing besides, a request to forgotten.
DESIGN = {
    "pending": "queued cancelled",
    "queued": "validated rejected failed pending cancelled",
    "validated": "submitting pending failed cancelled",
    "submitting": "transcribing validated failed unknown",
    "unknown": "transcribing validated parked",
    "parked": "transcribing validated failed cancelled",
    "transcribing": "completed failed parked",
    "completed": "indexed",
    "indexed": "",
    "rejected": "pending cancelled",
    "failed": "pending cancelled",
    "cancelled": "pending",
    "forgotten": "",
}


@pytest.mark.parametrize("state", State)
def test_each_state_leads_where_the_design_says(state: State) -> None:
    proved = {State.TRANSCRIBING} if state in BEFORE_COMPLETED else set()
    asked = {State.FORGOTTEN} if state in FORGETTABLE else set()

    assert TRANSITIONS[state] == {State(name) for name in DESIGN[state].split()} | proved | asked


@pytest.mark.parametrize(("before", "after"), [pair for pair in PAIRS if pair[1] not in TRANSITIONS[pair[0]]])
def test_a_change_that_the_table_does_not_have_raises(before: State, after: State) -> None:
    with pytest.raises(TransitionNotAllowed, match=f"{before} to {after}"):
        check_transition(before, after)


def test_a_change_that_the_table_has_passes() -> None:
    for before, following in TRANSITIONS.items():
        for after in following:
            check_transition(before, after)


def test_every_state_is_active_or_terminal_or_waits_for_a_person_and_only_one_of_these() -> None:
    assert sorted([*ACTIVE, *TERMINAL, *NEEDS_PERSON]) == sorted(State)


def test_the_sweep_looks_at_all_active_states_but_the_one_that_the_pump_looks_after() -> None:
    assert {State.PENDING} == ACTIVE - SWEPT


def test_an_event_proves_acceptance_from_every_state_before_completed() -> None:
    assert {
        State.PENDING,
        State.QUEUED,
        State.VALIDATED,
        State.SUBMITTING,
        State.UNKNOWN,
        State.PARKED,
        State.REJECTED,
        State.FAILED,
        State.CANCELLED,
    } == BEFORE_COMPLETED


def test_only_an_intent_leads_to_a_post() -> None:
    assert {state for state in State if State.SUBMITTING in TRANSITIONS[state]} == {State.VALIDATED}


def test_what_may_have_been_accepted_never_begins_anew_by_itself() -> None:
    for state in (State.SUBMITTING, State.UNKNOWN, State.PARKED, State.TRANSCRIBING, State.COMPLETED, State.INDEXED):
        assert not TRANSITIONS[state] & {State.PENDING, State.QUEUED}


def test_every_state_can_be_reached_from_pending() -> None:
    reached, frontier = {State.PENDING}, {State.PENDING}
    while frontier:
        frontier = {after for before in frontier for after in TRANSITIONS[before]} - reached
        reached |= frontier

    assert reached == set(State)


def test_everything_can_be_forgotten_but_a_request_that_may_be_on_its_way() -> None:
    assert {state for state in State if State.FORGOTTEN in TRANSITIONS[state]} == FORGETTABLE
    assert set(State) - FORGETTABLE == {State.SUBMITTING, State.FORGOTTEN}


def test_nothing_follows_a_forgotten_recording() -> None:
    assert not TRANSITIONS[State.FORGOTTEN]
