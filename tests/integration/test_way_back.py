"""How results come back: without webhooks by status look-ups, and nothing is paid for that could never come back."""

import time

import pytest
import redis

from config import queues
from tests.conftest import MakeResources, free_port
from tests.support.desk import BY, Desk
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from workers.ledger import controls
from workers.model import Reason, Recording, State
from workers.pipeline.poll import poll
from workers.pipeline.pump import pump
from workers.pipeline.submit import submit
from workers.pipeline.sweep import sweep
from workers.pipeline.validate import validate
from workers.pipeline.way_back import WayBack, way_back
from workers.resources import Resources

pytestmark = pytest.mark.both_ledgers

PAST = 1.0
FAR = 1e12


@pytest.fixture
def polling(make_resources: MakeResources, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk that the API can't reach."""
    monkeypatch.setattr("config.genesys.GenesysSettings.on_loopback", False)
    return Desk(make_resources(), broker)


def known(resources: Resources) -> WayBack:
    with resources.ledger.read() as tx:
        return way_back(tx, resources)


def go_on(desk: Desk, recording: Recording) -> Recording:
    """Does what its messages ask for, as far as it is handed out."""
    now = desk.now(recording)
    if now.state == State.QUEUED and validate(desk.resources, now.id, now.epoch, by=BY):
        submit(desk.resources, now.id, now.epoch, by=BY)
    return desk.now(recording)


def test_without_webhooks_one_recording_goes_first_and_its_look_up_lets_the_others_follow(
    polling: Desk, sandbox: Sandbox
) -> None:
    first, *others = polling.ask(GOOD[:5])
    assert [pump(polling.resources, by=BY) for _ in range(3)] == [1, 0, 0]
    accepted = go_on(polling, first)
    assert pump(polling.resources, by=BY) == 0
    assert (accepted.due_at or FAR) < time.time() + 10

    poll(polling.resources, first.id, by=BY)

    assert known(polling.resources) == WayBack.POLLING
    assert pump(polling.resources, by=BY) == len(others)


@pytest.mark.parametrize("route", ["missing", "method_not_allowed"])
def test_with_neither_webhooks_nor_a_status_route_nothing_more_is_submitted(
    polling: Desk, sandbox: Sandbox, route: str
) -> None:
    sandbox.faults(status_route=route)
    first, second = polling.ask(GOOD[:2])
    pump(polling.resources, by=BY)
    go_on(polling, first)
    for _ in range(2):
        poll(polling.resources, first.id, by=BY)

    assert known(polling.resources) == WayBack.NONE
    assert pump(polling.resources, by=BY) == 0
    assert polling.state(second) == State.PENDING

    out = polling.set(second, state=State.VALIDATED)
    assert not submit(polling.resources, out.id, out.epoch, by=BY)
    assert sandbox.stats()["submits"] == 1


def test_a_404_on_one_id_does_not_make_a_route_that_worked_a_missing_one(polling: Desk, sandbox: Sandbox) -> None:
    first, second = (polling.submitted(media_id) for media_id in GOOD[:2])
    poll(polling.resources, first.id, by=BY)
    polling.set(second, transcription_id="nobody-knows-it")

    for _ in range(3):
        poll(polling.resources, second.id, by=BY)

    assert known(polling.resources) == WayBack.POLLING


def test_with_webhooks_a_missing_route_stops_nothing_and_is_not_asked_again_for_a_while(
    desk: Desk, sandbox: Sandbox
) -> None:
    sandbox.faults(status_route="method_not_allowed")
    first, second = (desk.submitted(media_id) for media_id in GOOD[:2])

    poll(desk.resources, first.id, by=BY)
    poll(desk.resources, second.id, by=BY)

    assert sandbox.stats()["status_lookups"] == 1
    desk.ask(GOOD[2:4])
    assert pump(desk.resources, by=BY) == 2


def test_a_route_that_is_there_after_all_is_noticed(desk: Desk, sandbox: Sandbox) -> None:
    accepted = desk.submitted(GOOD[0])
    with desk.resources.ledger.write() as tx:
        controls.set_status_route(tx, desk.resources.client_key, works=False, why="HTTP 405")
        tx.execute(controls.controls.update().values(value='{"works": false, "why": "HTTP 405", "since": 1.0}'))

    poll(desk.resources, accepted.id, by=BY)

    with desk.resources.ledger.read() as tx:
        route = controls.status_route(tx, desk.resources.client_key)
    assert route is not None
    assert route.works


def test_without_a_route_an_overdue_recording_is_parked_without_an_answer(desk: Desk, sandbox: Sandbox) -> None:
    accepted = desk.submitted(GOOD[0])
    with desk.resources.ledger.write() as tx:
        controls.set_status_route(tx, desk.resources.client_key, works=False, why="HTTP 405")
    desk.set(accepted, accepted_at=PAST)

    poll(desk.resources, accepted.id, by=BY)

    assert (desk.now(accepted).state, desk.now(accepted).reason) == (State.PARKED, Reason.OVERDUE)


def test_past_the_deadline_a_look_up_that_is_not_answered_parks_nothing(
    desk: Desk, make_resources: MakeResources
) -> None:
    accepted = desk.submitted(GOOD[0])
    desk.set(accepted, accepted_at=PAST)
    nobody = make_resources(GENESYS_BASE_URL=f"http://127.0.0.1:{free_port()}")

    poll(nobody, accepted.id, by=BY)

    now = desk.now(accepted)
    assert now.state == State.TRANSCRIBING
    assert (now.due_at or 0) > time.time()


def test_look_ups_are_asked_for_no_faster_than_they_are_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.pipeline.sweep.BATCH", 3)
    for media_id in GOOD[:5]:
        desk.set(desk.submitted(media_id), due_at=PAST)

    for _ in range(3):
        sweep(desk.resources, by=BY)

    assert len(desk.messages(queues.POLL)) == 3


def test_what_is_due_in_one_state_does_not_starve_another(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.pipeline.sweep.BATCH", 2)
    for media_id in GOOD[:3]:
        desk.set(desk.submitted(media_id), due_at=PAST)
    lost = desk.set(desk.queued(GOOD[3]), due_at=PAST + 1)

    sweep(desk.resources, by=BY)

    assert [message["recording_id"] for message in desk.messages(queues.VALIDATE)] == [lost.id]
