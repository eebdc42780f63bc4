"""Several running backfills share the window: as many of each are handed out, however small the room is each time."""

from collections import Counter
from collections.abc import Sequence

import pytest

from config import queues
from tests.support.desk import BY, Desk, queued_recordings
from workers.ledger import handout
from workers.model import Lane, Recording, State
from workers.pipeline import pump as pumping
from workers.pipeline import steering
from workers.pipeline.pump import pump

WINDOW = 7


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pumping, "SMALLEST_WINDOW", WINDOW)
    monkeypatch.setattr(pumping, "WINDOW_SECONDS", 0.0)


class Queue:
    """The recordings that are out, first in, first out."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._out: list[Recording] = []
        #: How many of each backfill have been handed out.
        self.handed_out: Counter[str] = Counter()

    def _sent(self) -> list[int]:
        """The recordings in the order of their messages."""
        waiting = [*self._desk.messages(queues.VALIDATE), *self._desk.messages(queues.LIVE)]
        return [message["recording_id"] for message in waiting]

    def tick(self, leave: int) -> int:
        """The pump runs, and so many are submitted then; gives how many were handed out."""
        number = pump(self._desk.resources, by=BY)
        known = {one.id for one in self._out}
        queued = [one for one in queued_recordings(self._desk.resources.ledger) if one.id not in known]
        self.handed_out.update(one.backfill for one in queued)
        self._out += sorted(queued, key=lambda one: self._sent().index(one.id))
        for one in self._out[:leave]:
            self._desk.set(one, state=State.TRANSCRIBING, due_at=4e9)
        del self._out[:leave]
        return number


def ask(desk: Desk, names: Sequence[str], number: int, lane: Lane = Lane.BACKFILL) -> None:
    for name in names:
        desk.ask([f"{name}-{one}" for one in range(number)], backfill=name, lane=lane)


@pytest.mark.both_ledgers
@pytest.mark.parametrize("names", [("q1", "q2"), ("q1", "q2", "q3")])
@pytest.mark.parametrize("leave", [1, 2])
def test_over_many_small_ticks_each_gets_as_many_as_the_others(desk: Desk, names: Sequence[str], leave: int) -> None:
    ask(desk, names, 60)
    queue = Queue(desk)

    for _ in range(60 // leave):
        queue.tick(leave)

    assert queue.handed_out.total() == WINDOW + 60 - leave
    assert max(queue.handed_out.values()) - min(queue.handed_out[name] for name in names) <= 2


def test_one_that_comes_later_catches_up_with_what_is_out_and_shares_from_then_on(desk: Desk) -> None:
    ask(desk, ["q1"], 60)
    queue = Queue(desk)
    queue.tick(1)
    ask(desk, ["q2"], 60)

    for _ in range(WINDOW):
        queue.tick(1)
    before = queue.handed_out.copy()
    for _ in range(40):
        queue.tick(1)

    since = queue.handed_out - before
    assert abs(since["q1"] - since["q2"]) <= 2


@pytest.mark.parametrize("lane", list(Lane))
def test_one_with_nothing_left_yields_its_share_at_once(desk: Desk, lane: Lane) -> None:
    ask(desk, ["q1", "q3"], 40, lane)
    ask(desk, ["q2"], 1, lane)
    queue = Queue(desk)

    assert queue.tick(WINDOW) == WINDOW
    assert queue.handed_out == {"q1": 3, "q2": 1, "q3": 3}
    queue.tick(WINDOW)
    assert (queue.handed_out["q2"], queue.handed_out.total()) == (1, 2 * WINDOW)


def test_a_paused_one_takes_no_room_from_the_others(desk: Desk) -> None:
    ask(desk, ["q1", "q2"], 40)
    assert pump(desk.resources, by=BY) == WINDOW
    steering.pause(desk.resources, "q1")

    pump(desk.resources, by=BY)

    with desk.resources.ledger.read() as tx:
        assert sum(one.number for one in handout.out(tx, Lane.BACKFILL).values()) == WINDOW
