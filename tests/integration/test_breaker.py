"""An API that is down makes a handful unknown, one that refuses the client halts the fleet; both end by themselves."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import uvicorn

from config import queues, task_names
from tests.conftest import MakeResources
from tests.support.command import run_command, running_command
from tests.support.desk import BY, Desk
from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD, IDS, MISSING
from workers.errors import ApiRateLimited, ApiUnreachable, RateLimited, ScopeMissing
from workers.ledger import controls, recordings
from workers.model import CallClass, Recording, State
from workers.pipeline import api
from workers.pipeline.poll import poll
from workers.pipeline.pump import pump
from workers.pipeline.status import status
from workers.pipeline.submit import submit
from workers.pipeline.validate import validate

SUBMIT, MEDIA = CallClass.SUBMIT, CallClass.MEDIA
WORKERS = 2
FAILURES_IN_A_ROW, CANARIES = 5, 3
#: What is on its way when the gate closes can't be called back.
HANDFUL = FAILURES_IN_A_ROW + WORKERS * queues.THREADS["pipeline"] + CANARIES
ASKED = IDS[:150]
USABLE = [media_id for media_id in ASKED if media_id in GOOD]


@pytest.fixture
def fleet(desk: Desk, environment: dict[str, str], tmp_path: Path) -> Iterator[None]:
    """Workers in processes of their own; the pump is the test's."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                running_command("worker", "--role", role, folder=tmp_path, log=tmp_path / "log", **environment)
            )
            for role in ("pipeline",) * WORKERS + ("index",)
        ]
        yield
        for worker in workers:  # at once, not one after the other
            worker.terminate()


def states(desk: Desk) -> Mapping[str, int]:
    return status(desk.resources, "q3").counts.states


def halt(desk: Desk) -> controls.Halt | None:
    with desk.resources.ledger.read() as tx:
        return controls.halt(tx, desk.resources.client_key)


def probe(desk: Desk) -> dict[str, Any]:
    """The message of the one recording that is sent a minute later to find out whether the halt still stands."""
    with desk.resources.ledger.write() as tx:
        standing = controls.halt(tx, desk.resources.client_key)
        assert standing is not None
        controls.set_halt(tx, desk.resources.client_key, replace(standing, next_probe_at=0.0))
    desk.lose_messages()
    assert pump(desk.resources, by=BY) == 1
    assert pump(desk.resources, by=BY) == 0
    (message,) = desk.messages(queues.VALIDATE) + desk.messages(queues.SUBMIT)
    return message


def work_on(desk: Desk, message: dict[str, Any]) -> bool:
    """Runs the steps of a message as a worker does; whether the recording was submitted."""
    ids = message["recording_id"], message["epoch"]
    looked_up = message["task"] != task_names.VALIDATE or validate(desk.resources, *ids, by=BY)
    try:
        return looked_up and submit(desk.resources, *ids, by=BY)
    except ApiRateLimited:  # two tokens arrived closer together than their permits; a worker tries again too
        return submit(desk.resources, *ids, by=BY)


def submit_now(desk: Desk, recording: Recording) -> bool:
    return submit(desk.resources, recording.id, desk.now(recording).epoch, by=BY)


def test_an_outage_makes_a_handful_unknown_and_the_rest_is_indexed_after_it(
    fleet: None, desk: Desk, receiver: uvicorn.Server, sandbox: Sandbox
) -> None:
    desk.ask(ASKED)
    sandbox.faults(submit_status=500, slow_seconds=0.5)

    pump(desk.resources, by=BY)
    assert eventually(
        lambda: desk.resources.limiter.snapshot(SUBMIT).gate_seconds > 1.1, timeout=40, what="the canary's failure"
    )
    sandbox.faults()
    eventually(
        lambda: (now := states(desk)).get(State.INDEXED, 0) + now[State.UNKNOWN] == len(USABLE),
        timeout=60,
        what="the rest of the backfill",
    )

    found, stats = states(desk), sandbox.stats()
    unknown = found[State.UNKNOWN]
    assert FAILURES_IN_A_ROW < unknown <= HANDFUL
    assert {state: count for state, count in found.items() if count} == {
        State.UNKNOWN: unknown,
        State.INDEXED: len(USABLE) - unknown,
        State.REJECTED: len(ASKED) - len(USABLE),
    }
    assert stats["submits"] == len(USABLE)
    assert list(stats["accepted"].values()) == [1] * (len(USABLE) - unknown)


def test_the_first_submission_after_an_outage_is_not_sent_while_look_ups_fail_too(desk: Desk, sandbox: Sandbox) -> None:
    ready = desk.validated(GOOD[0])
    desk.resources.limiter.close_gate(SUBMIT, 0, "failing")
    sandbox.faults(media_status=503, submit_status=503)

    with pytest.raises(ApiUnreachable):
        submit_now(desk, ready)
    found, gate = desk.now(ready), desk.resources.limiter.snapshot(SUBMIT).gate_seconds
    sandbox.faults()

    assert gate > 0
    assert (found.state, found.attempts, sandbox.stats()["submits"]) == (State.VALIDATED, 0, 0)
    assert submit_now(desk, ready)


def test_the_first_submission_after_an_outage_waits_for_the_gate_of_look_ups(desk: Desk, sandbox: Sandbox) -> None:
    ready = desk.validated(GOOD[0])
    desk.resources.limiter.close_gate(SUBMIT, 0, "failing")
    desk.resources.limiter.close_gate(MEDIA, 20, "failing")

    with pytest.raises(RateLimited):
        submit_now(desk, ready)

    assert desk.resources.limiter.snapshot(SUBMIT).gate_seconds > 15
    assert (desk.state(ready), sandbox.stats()["submits"]) == (State.VALIDATED, 0)


@pytest.mark.parametrize(
    ("faults", "trigger", "reason", "call_class"),
    [
        ({"submit_status": 403}, submit_now, "ScopeMissing", "submit"),
        ({"submit_status": 401}, submit_now, "CredentialsRejected", "submit"),
        (
            {"media_status": 403},
            lambda desk, _: not validate(desk.resources, *_out(desk.queued(GOOD[5])), by=BY),
            "ScopeMissing",
            "media",
        ),
        ({"revoke_tokens": True, "token_status": 401}, submit_now, "CredentialsRejected", "token"),
    ],
    ids=["403", "401-twice", "403-on-look-ups", "no-token"],
)
def test_a_refusal_of_the_client_stops_the_fleet_fails_nothing_and_is_lifted_by_a_probe(
    desk: Desk,
    make_resources: MakeResources,
    broker: redis.Redis,
    sandbox: Sandbox,
    faults: dict[str, object],
    trigger: Callable[[Desk, Recording], bool],
    reason: str,
    call_class: str,
) -> None:
    first, second, queued = desk.validated(GOOD[0]), desk.validated(GOOD[1]), desk.queued(GOOD[2])
    desk.ask([GOOD[3]])
    elsewhere = Desk(make_resources(), broker)
    sandbox.reset()
    sandbox.faults(**faults)

    trigger(desk, first)
    seen = sandbox.stats()
    for worker in (desk, elsewhere):
        assert pump(worker.resources, by=BY) == 0
        assert not submit_now(worker, second)
        assert not validate(worker.resources, *_out(desk.now(queued)), by=BY)

    standing = halt(desk)
    assert standing is not None
    assert (standing.reason, standing.call_class) == (reason, call_class)
    after = sandbox.stats()
    assert [after[one] - seen[one] for one in ("submits", "media_lookups", "tokens_issued")] == [0, 0, 0]
    assert set(states(desk)) <= {State.PENDING, State.QUEUED, State.VALIDATED}
    assert not work_on(elsewhere, probe(elsewhere))
    assert halt(desk) is not None

    sandbox.faults()
    message = probe(elsewhere)
    assert work_on(elsewhere, message)

    assert halt(desk) is None
    others = [one for one in (first, second) if one.id != message["recording_id"]]
    assert all(submit_now(desk, one) for one in others if desk.state(one) == State.VALIDATED)
    assert pump(desk.resources, by=BY) > 0
    assert set(sandbox.stats()["accepted"].values()) == {1}


def test_status_and_doctor_show_the_halt_with_its_reason_and_the_fix(
    desk: Desk, sandbox: Sandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    ready = desk.validated(GOOD[0])
    sandbox.faults(submit_status=403)
    submit_now(desk, ready)

    with ThreadPoolExecutor(3) as pool:
        commands = (("status", "q3"), ("status", "q3", "--json"), ("doctor", "--json"))
        text, machine, doctor = pool.map(lambda one: run_command(*one, folder=tmp_path, **environment), commands)

    told = " ".join(text.stdout.split())
    shown = json.loads(machine.stdout)
    checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
    fix = "lacks the scope media:transcription:write: grant it under Admin > Integrations > OAuth"
    assert "HALTED" in told
    assert fix in told
    assert shown["halt"]["reason"] == "ScopeMissing"
    assert fix in shown["halt"]["detail"]
    assert (shown["failed_reasons"], shown["states"]["validated"]) == ({}, 1)
    assert checks["halt"]["state"] == "wrong"
    assert fix in checks["halt"]["found"]
    assert checks["halt"]["fix"]


@pytest.mark.parametrize("fate", ["cancelled", "rejected", "its worker was killed"])
def test_a_probe_that_finds_nothing_out_is_followed_by_another_a_minute_later(
    desk: Desk, sandbox: Sandbox, fate: str
) -> None:
    lost, other = desk.ask([MISSING[0], GOOD[0]])
    sandbox.faults(media_status=403)
    assert not validate(desk.resources, *_out(desk.queued(GOOD[1])), by=BY)
    sandbox.faults()
    message = probe(desk)
    assert message["recording_id"] == lost.id

    if fate == "cancelled":
        desk.set(lost, state=State.CANCELLED, due_at=None)
    elif fate == "rejected":
        with desk.resources.ledger.write() as tx:
            recordings.move(tx, desk.now(lost), State.REJECTED, by=BY)
    message = probe(desk)

    assert message["recording_id"] == (lost.id if fate.startswith("its") else other.id)
    work_on(desk, message)
    assert halt(desk) is None or fate.startswith("its")


def test_a_halt_of_look_ups_is_probed_by_a_look_up_though_all_is_looked_up(desk: Desk, sandbox: Sandbox) -> None:
    ready = desk.validated(GOOD[0])
    sandbox.faults(media_status=403)
    refused = desk.queued(GOOD[1])
    assert not validate(desk.resources, *_out(refused), by=BY)
    desk.set(refused, state=State.CANCELLED, due_at=None)
    sandbox.faults()

    message = probe(desk)

    assert (message["recording_id"], message["task"]) == (ready.id, task_names.VALIDATE)
    assert work_on(desk, message)
    assert halt(desk) is None


def test_what_a_call_finds_that_was_under_way_at_the_halt_puts_the_probe_off_no_further(desk: Desk) -> None:
    now = time.time()
    standing = controls.Halt("ScopeMissing", "The first.", "submit", now, now + 20)

    def late(*_: object) -> None:
        with desk.resources.ledger.write() as tx:
            controls.set_halt(tx, desk.resources.client_key, standing)
        raise ScopeMissing("The second.")

    with pytest.raises(ScopeMissing):
        api.call(desk.resources, SUBMIT, late, recording_id=1)

    assert halt(desk) == standing


def test_refused_status_look_ups_halt_nobody(desk: Desk, sandbox: Sandbox) -> None:
    accepted = desk.submitted(GOOD[0])
    sandbox.faults(status_status=403)

    poll(desk.resources, accepted.id, by=BY)

    assert halt(desk) is None
    assert "403" in str(desk.now(accepted).detail)
    assert submit_now(desk, desk.validated(GOOD[1]))


def test_with_nothing_left_to_submit_a_status_look_up_a_minute_finds_out_whether_there_are_tokens_again(
    desk: Desk, sandbox: Sandbox
) -> None:
    accepted = desk.submitted(GOOD[0])
    sandbox.faults(token_status=401, revoke_tokens=True)
    poll(desk.resources, accepted.id, by=BY)
    standing = halt(desk)
    assert standing is not None
    sandbox.faults()

    poll(desk.resources, accepted.id, by=BY)
    assert halt(desk) == standing
    with desk.resources.ledger.write() as tx:
        controls.set_halt(tx, desk.resources.client_key, replace(standing, next_probe_at=0.0))
    assert pump(desk.resources, by=BY) == 0
    poll(desk.resources, accepted.id, by=BY)

    assert halt(desk) is None


def test_a_token_revoked_under_many_calls_at_once_is_refreshed_once_and_halts_nobody(
    desk: Desk, make_resources: MakeResources, broker: redis.Redis, sandbox: Sandbox
) -> None:
    ready = [desk.validated(media_id) for media_id in GOOD[:12]]
    processes = [desk, Desk(make_resources(), broker)]
    sandbox.reset()
    sandbox.faults(revoke_tokens=True)
    together = threading.Barrier(len(ready))

    def work(position: int) -> bool:
        together.wait()
        return submit_now(processes[position % 2], ready[position])

    with ThreadPoolExecutor(len(ready)) as pool:
        accepted = list(pool.map(work, range(len(ready))))

    assert all(accepted)
    stats = sandbox.stats()
    assert stats["tokens_issued"] == 1
    assert stats["accepted"] == dict.fromkeys(GOOD[:12], 1)
    assert halt(desk) is None


def _out(recording: Recording) -> tuple[int, int]:
    return recording.id, recording.epoch
