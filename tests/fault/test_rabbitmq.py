"""RabbitMQ as the broker: what is promised over Valkey holds over a real server, and what differs is as documented.

The order counts: what needs a server that no worker has used yet comes first.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from amqp import Message
from celery import Celery
from kombu import Queue

from config import queues
from tests.conftest import free_port
from tests.support.broker import Broker
from tests.support.command import HOUSE, bare_environment, run_command, running_command
from tests.support.eventually import eventually
from tests.support.fleet import CATALOGUE, PARTS, RATE, Fleet, assert_nothing_lost_nothing_twice
from tests.support.rabbitmq import Rabbitmq, needs_rabbitmq
from tests.support.sandbox import NO_TLS, Sandbox
from workers.model import Lane, State

pytestmark = [pytest.mark.slow, needs_rabbitmq]

WORKERS: Final = (*PARTS, "live")
DONE: Final = {State.INDEXED, State.REJECTED}


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[Rabbitmq]:
    server = Rabbitmq().start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """For limiter, token and results."""
    server = Broker(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, rabbitmq: Rabbitmq, valkey: Broker) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with Sandbox(rate=RATE, processing_seconds=0.2, count=CATALOGUE) as sandbox:
        started = Fleet(
            folder,
            sandbox,
            valkey,
            parts=WORKERS,
            servers={"rabbitmq": rabbitmq},
            broker_url=rabbitmq.url,
            unchecked={"submit_lease_seconds": 10},
        )
        yield started
        started.close()


@pytest.fixture
def fleet(shared: Fleet) -> Fleet:
    """All parts run, nothing is wrong."""
    shared.heal()
    if "live" not in shared.pids():
        shared.start("live")
    return shared


def environment(fleet: Fleet, **changed: str) -> dict[str, str]:
    """The settings of the fleet, for a command."""
    settings = fleet.resources.settings
    ours = {
        "RETROSCRIBE_HOME": str(settings.home),
        "RETROSCRIBE_REDIS_URL": str(settings.redis_url),
        "RETROSCRIBE_BROKER_URL": str(settings.broker_url),
        "RETROSCRIBE_RECEIVER_PORT": str(settings.receiver_port),
        "RETROSCRIBE_WEBHOOK_SECRETS": settings.webhook_secrets[0].get_secret_value(),
    }
    return fleet.sandbox.env | ours | changed


def checks(fleet: Fleet, **changed: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and lines of `doctor` by name."""
    ended = run_command("doctor", "--json", folder=fleet.folder, **environment(fleet, **changed))
    return ended.returncode, {check["name"]: check for check in json.loads(ended.stdout)["checks"]}


def a_plain_app(rabbitmq: Rabbitmq, valkey: Broker) -> Celery:
    app = Celery(broker=rabbitmq.url, backend=f"redis+socket://{valkey.socket}", set_as_current=False)
    app.conf.broker_transport_options = {"confirm_publish": True}
    return app


def test_what_an_app_sends_before_any_worker_ran_is_taken_in_and_its_answer_comes(
    rabbitmq: Rabbitmq, valkey: Broker, request: pytest.FixtureRequest
) -> None:
    app = a_plain_app(rabbitmq, valkey)
    intake = Queue(queues.INTAKE, queue_arguments={"x-queue-type": "quorum"})
    message = {"backfill": "first", "recordings": [{"media_id": "call-1"}, {"media_id": "not an id"}]}
    result = app.send_task("retroscribe.enqueue", queue=intake, kwargs=message)
    assert rabbitmq.messages(queues.INTAKE) == 1

    request.getfixturevalue("shared")

    answer = result.get(timeout=30)
    assert (answer["accepted"], [one["index"] for one in answer["rejected"]]) == (1, [1])


def test_the_example_of_the_document_prints_the_answer(fleet: Fleet, valkey: Broker) -> None:
    document = (HOUSE / "docs" / "messages.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(# ask_rabbitmq\.py\n.*?)^```$", document, re.DOTALL | re.MULTILINE)

    ran = subprocess.run(
        [sys.executable, "-c", example],
        env=bare_environment(**environment(fleet, RETROSCRIBE_REDIS_URL=f"redis+socket://{valkey.socket}")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.stdout == "{'backfill': '2026-q3', 'accepted': 1, 'duplicates': 0, 'rejected': []}\n", ran.stderr


def test_a_message_of_an_app_without_python_is_taken_in(fleet: Fleet, rabbitmq: Rabbitmq, valkey: Broker) -> None:
    id_ = "3f1b0c52-8c56-4d0b-9c29-0d4f6a4a9f7e"
    message = Message(
        json.dumps([[], {"backfill": "raw", "recordings": [{"media_id": "call-2"}]}, {}]),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        correlation_id=id_,
        application_headers={"lang": "js", "task": "retroscribe.enqueue", "id": id_},
    )
    with rabbitmq.connection() as connection:
        connection.default_channel.basic_publish(message, exchange="", routing_key=queues.INTAKE)

    with valkey.client() as client:
        kept = eventually(lambda: client.get(f"celery-task-meta-{id_}"), what="its answer")
    assert json.loads(kept)["result"]["accepted"] == 1


def test_a_backfill_comes_to_its_end_and_live_goes_before_it(fleet: Fleet) -> None:
    fleet.ask("long", 400)
    eventually(lambda: fleet.ended("long") > 20, what="the first ones")

    fleet.ask("urgent", 20, lane=Lane.LIVE)
    assert fleet.finish("urgent").keys() <= DONE
    ended_by_then = fleet.ended("long")

    assert ended_by_then < 300
    assert fleet.finish("long").keys() <= DONE
    assert_nothing_lost_nothing_twice(fleet, "long")
    assert_nothing_lost_nothing_twice(fleet, "urgent")


def test_what_is_tried_again_waits_in_the_server_and_keeps_its_lane(fleet: Fleet, rabbitmq: Rabbitmq) -> None:
    fleet.kill("pipeline")  # so that what goes to another queue than the live one stays there
    fleet.sandbox.faults(media_status=503, count=3)

    media_ids = fleet.ask("again", 4, lane=Lane.LIVE)

    assert fleet.finish("again").keys() <= DONE
    assert fleet.said("live").count("task_retries") >= 3
    # Other tests may have left messages of theirs, which do nothing.
    waiting = rabbitmq.bodies(queues.VALIDATE)
    assert [one for one in media_ids if any(one in body for body in waiting)] == []
    assert_nothing_lost_nothing_twice(fleet, "again")


def test_a_server_killed_and_started_again_in_the_middle_ends_no_process(fleet: Fleet) -> None:
    pids = fleet.pids()
    fleet.sandbox.faults(slow_seconds=0.2)  # else none may be under way whenever one looks
    for _ in range(3):
        fleet.ask("restarted", 60)
        eventually(lambda: fleet.states("restarted")[State.SUBMITTING], what="calls under way")
        fleet.kill("rabbitmq")
        fleet.ask("restarted", 10)  # only beat can have these handed out
        fleet.start("rabbitmq")

    assert fleet.finish("restarted", 120).keys() <= DONE
    assert_nothing_lost_nothing_twice(fleet, "restarted")
    assert fleet.pids() == pids


def test_a_server_that_freezes_in_the_middle_holds_up_the_work_and_ends_no_process(
    fleet: Fleet, rabbitmq: Rabbitmq
) -> None:
    pids = fleet.pids()
    fleet.ask("frozen", 120)
    eventually(lambda: fleet.ended("frozen") > 5, what="the first ones")
    before = fleet.ended("frozen")

    rabbitmq.freeze()
    eventually(lambda: "imeout" in fleet.said("pipeline"), 60, "a sender that gave up")
    rabbitmq.thaw()

    assert fleet.finish("frozen", 120).keys() <= DONE
    assert fleet.ended("frozen") > before
    assert_nothing_lost_nothing_twice(fleet, "frozen")
    assert fleet.pids() == pids


def test_what_a_killed_worker_had_in_its_hands_is_delivered_again(fleet: Fleet) -> None:
    fleet.sandbox.faults(slow_seconds=0.2)
    fleet.ask("killed", 120)
    eventually(lambda: fleet.states("killed")[State.SUBMITTING], what="calls under way")

    fleet.kill("pipeline", "index")
    fleet.start("pipeline", "index")

    # Those whose POST was under way are unknown until their webhook comes or a person decides.
    assert fleet.finish("killed", 120).keys() <= {*DONE, State.PARKED}
    assert_nothing_lost_nothing_twice(fleet, "killed")


def test_doctor_status_and_run_tell_who_is_missing(fleet: Fleet) -> None:
    assert checks(fleet)[1]["workers"]["state"] == "ok"
    fleet.kill("pipeline")

    code, found = checks(fleet)
    ran = run_command("run", "--media-id", "call-3", "--name", "alone", folder=fleet.folder, **environment(fleet))
    status = run_command("status", folder=fleet.folder, **environment(fleet))

    assert (code, found["broker"]["state"], found["workers"]["state"]) == (4, "ok", "wrong")
    assert re.match(r"RabbitMQ \d+\.\d+.* at amqp://\*\*\*@", found["broker"]["found"])
    assert "retroscribe.submit" in found["workers"]["found"]
    assert (ran.returncode, "No worker takes from" in ran.stderr) == (4, True), ran.stderr
    assert status.returncode == 0, status.stderr


@pytest.mark.parametrize(
    ("part", "instead", "says"),
    [
        ("guest@", "hunter2@", "RabbitMQ refuses (AccessRefused)"),
        (r":\d+$", ":1", "The broker does not answer (OperationalError)"),
        ("$", "/elsewhere", "RabbitMQ refuses (NotAllowed)"),
    ],
)
def test_doctor_says_why_a_server_can_not_be_used_and_not_with_which_password(
    fleet: Fleet, part: str, instead: str, says: str
) -> None:
    url = re.sub(part, instead, str(fleet.resources.settings.broker_url))

    code, found = checks(fleet, RETROSCRIBE_BROKER_URL=url)

    assert code == 4
    assert found["broker"]["state"] == "wrong"
    assert says in found["broker"]["found"]
    assert "hunter2" not in str(found)


def test_flower_shows_the_tasks(fleet: Fleet) -> None:
    port = free_port()
    settings = environment(fleet, RETROSCRIBE_FLOWER_PORT=str(port))
    log = fleet.folder / "flower.log"
    search = {"draw": 1, "start": 0, "length": 500, "search[value]": "", "order[0][column]": 0}
    search["columns[0][data]"] = "received"
    with (
        running_command("flower", folder=fleet.folder, log=log, **settings),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=NO_TLS, trust_env=False) as http,
    ):
        eventually(lambda: _shows(http, "/workers", "pipeline"), 60, "the workers in Flower")
        (media_id,) = fleet.ask("shown", 1)
        eventually(lambda: _shows(http, "/tasks/datatable", media_id, **search), 60, "the task in Flower")
        assert _shows(http, "/broker", "guest:**")
    assert "guest:guest" not in log.read_text()


def _shows(http: httpx.Client, page: str, text: str, **query: Any) -> bool:
    try:
        return text in http.get(page, params=query).text
    except httpx.HTTPError:
        return False


def test_a_queue_that_somebody_made_in_another_form_is_named_by_worker_and_doctor(
    fleet: Fleet, rabbitmq: Rabbitmq
) -> None:
    fleet.kill("index")
    with rabbitmq.connection() as connection:
        channel = connection.default_channel
        channel.queue_delete(queues.POLL)
        channel.queue_declare(queues.POLL, durable=True, auto_delete=False)
    try:
        worker = run_command("worker", "--role", "index", folder=fleet.folder, **environment(fleet))
        _, found = checks(fleet)
    finally:
        with rabbitmq.connection() as connection:
            connection.default_channel.queue_delete(queues.POLL)

    assert (worker.returncode, "in another form" in worker.stderr) == (4, True), worker.stderr
    assert "Traceback" not in worker.stderr
    assert "in another form" in found["broker"]["found"]
