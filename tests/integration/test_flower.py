"""Flower as people use it: what it finds of a recording, what it shows to whom, and that it outlives the broker."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from config import task_names
from tests.conftest import free_port
from tests.support.broker import Broker
from tests.support.command import HOUSE, bare_environment, run_command
from tests.support.eventually import eventually
from tests.support.fleet import Fleet
from tests.support.flower import USER, Flower, flower_at
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from workers.base import SHOWN
from workers.model import State

STRANGER: Final = "no-such-media"
#: Those that the workers send events of.
SEEN: Final = {task_names.VALIDATE, task_names.SUBMIT, task_names.TRACK}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flower")


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[Broker]:
    started = Broker(folder).start()
    yield started
    started.close()


@pytest.fixture(scope="module")
def flower(folder: Path, broker: Broker) -> Iterator[Flower]:
    """Started before there is any worker."""
    port = free_port()
    environment = bare_environment(
        RETROSCRIBE_HOME=str(folder / "home"),
        RETROSCRIBE_REDIS_URL=broker.url,
        RETROSCRIBE_FLOWER_PORT=str(port),
        RETROSCRIBE_FLOWER_BASIC_AUTH=":".join(USER),
        FLOWER_PORT="tcp://10.0.0.8:5555",  # as Kubernetes sets it where a service is called flower
    )
    with (folder / "flower.log").open("wb") as log:
        command = [sys.executable, "-m", "workers.cli.main", "flower"]
        process = subprocess.Popen(command, cwd=HOUSE, env=environment, stdout=log, stderr=log)
    try:
        with flower_at(port) as pages:
            yield pages
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def fleet(flower: Flower, folder: Path, broker: Broker, shared_sandbox: Sandbox) -> Iterator[Fleet]:
    started = Fleet(folder, shared_sandbox, broker, poll_after_seconds=1)
    yield started
    started.close()


def test_each_task_of_a_recording_is_found_by_its_media_id_with_what_it_came_to(fleet: Fleet, flower: Flower) -> None:
    fleet.ask("found", 0, extra=GOOD[:2])
    fleet.finish("found")

    def tasks() -> dict[str, str]:
        return dict(flower.results(f"kwargs:media_id={GOOD[0]}"))

    eventually(lambda: tasks().keys() >= SEEN, what="its tasks in Flower")
    assert tasks()[task_names.VALIDATE] == "'state=validated'"
    assert "indexed" in str(eventually(lambda: flower.results(f"{GOOD[0]} state=indexed"), what="its last task"))
    assert not any(GOOD[1] in task["kwargs"] for task in flower.find(f"kwargs:media_id={GOOD[0]}"))


def test_recordings_are_found_by_the_reason_why_they_ended_badly(fleet: Fleet, flower: Flower) -> None:
    fleet.ask("bad", 0, extra=[STRANGER])
    assert fleet.finish("bad")[State.REJECTED] == 1

    found = eventually(lambda: flower.find("result:reason=media_not_found"), what="the reason in Flower")

    assert [ast.literal_eval(task["kwargs"])["media_id"] for task in found] == [STRANGER]


def test_tasks_show_ids_only_also_after_a_retry(fleet: Fleet, flower: Flower) -> None:
    fleet.sandbox.faults(media_status=503, count=1)
    fleet.ask("retried", 0, extra=[GOOD[2]])
    fleet.finish("retried")
    fleet.sandbox.faults()

    tasks = eventually(lambda: flower.find(f"kwargs:media_id={GOOD[2]}"), what="its tasks in Flower")

    shown = [ast.literal_eval(task["kwargs"]) for task in [*tasks, *flower.find("retroscribe")] if task["kwargs"]]
    assert shown
    assert all(kwargs.keys() <= set(SHOWN) for kwargs in shown)


@pytest.mark.parametrize("page", ["/", "/tasks", "/workers", "/broker", "/metrics"])
def test_who_has_no_password_sees_neither_pages_nor_figures(flower: Flower, page: str) -> None:
    assert flower.http.get(page).status_code == 401
    assert flower.http.get(page, auth=("reader", "another")).status_code == 401
    assert flower.http.get(page, auth=USER, follow_redirects=True).status_code == 200


@pytest.mark.usefixtures("fleet")
def test_workers_and_queues_that_came_after_it_are_shown(flower: Flower) -> None:
    def workers() -> list[str]:
        shown = flower.http.get("/workers", params={"json": "1"}, auth=USER).raise_for_status().json()["data"]
        return [worker["hostname"] for worker in shown if worker["status"]]

    pipeline = eventually(lambda: [name for name in workers() if name.startswith("pipeline")], what="the workers")

    assert "retroscribe.submit" in flower.http.get(f"/worker/{pipeline[0]}", auth=USER).raise_for_status().text
    assert "retroscribe.submit" in flower.http.get("/broker", auth=USER).raise_for_status().text


def test_it_goes_on_after_the_broker_was_away(fleet: Fleet, flower: Flower) -> None:
    fleet.broker.kill()
    fleet.broker.start()
    asked: list[str] = []

    def one_is_shown() -> bool:
        asked.extend(fleet.ask("after", 1))
        return any(flower.find(f"kwargs:media_id={media_id}") for media_id in asked)

    # What happens before it has found the broker again, it never hears of.
    eventually(one_is_shown, timeout=60, what="new tasks in Flower")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"RETROSCRIBE_FLOWER_HOST": "10.0.0.8"}, "RETROSCRIBE_FLOWER_HOST is 10.0.0.8"),
        ({"RETROSCRIBE_FLOWER_READ_ONLY": "false"}, "RETROSCRIBE_FLOWER_READ_ONLY is false and there is no password"),
        ({"RETROSCRIBE_FLOWER_BASIC_AUTH": "hunter2"}, "RETROSCRIBE_FLOWER_BASIC_AUTH: must be user:password"),
    ],
)
def test_it_refuses_to_be_open_to_everybody(tmp_path: Path, variables: dict[str, str], says: str) -> None:
    ended = run_command("flower", folder=tmp_path, RETROSCRIBE_HOME=str(tmp_path), **variables)

    assert (ended.returncode, says in ended.stderr) == (2, True), ended.stderr
    assert "hunter2" not in ended.stderr
