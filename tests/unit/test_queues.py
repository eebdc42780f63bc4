"""Queues, roles, routes and names agree with each other, and with what the embedded stack starts."""

from pathlib import Path

import pytest
from celery.exceptions import QueueNotFound

from config import queues, task_names
from config.celery_settings import TASK_MODULES
from config.settings import Settings
from workers.app import app
from workers.base import BaseTask
from workers.stack.stack import children


@pytest.fixture(scope="module", autouse=True)
def _tasks() -> None:
    app.loader.import_default_modules()


@pytest.mark.parametrize("queue", queues.ALL)
def test_each_queue_is_consumed_by_a_role(queue: str) -> None:
    assert any(queue in consumed for consumed in queues.ROLES.values())


def test_roles_consume_only_queues_that_there_are() -> None:
    assert {queue for consumed in queues.ROLES.values() for queue in consumed} == set(queues.ALL)
    assert queues.ROLES.keys() == queues.THREADS.keys()


def test_the_embedded_stack_starts_a_worker_for_every_queue(tmp_path: Path) -> None:
    started = children(Settings(home=tmp_path, redis_url="redis://127.0.0.1:1"))
    roles = [child.argv[child.argv.index("--role") + 1] for child in started if "--role" in child.argv]

    assert {queue for role in roles for queue in queues.ROLES[role]} == set(queues.ALL)


def test_what_has_been_paid_for_is_finished_before_more_is_paid_for() -> None:
    assert queues.ROLES["pipeline"] == (queues.LIVE, queues.TRACK, queues.SUBMIT, queues.VALIDATE)


@pytest.mark.parametrize("name", task_names.ALL)
def test_each_task_name_is_registered_on_our_base_and_routed_to_a_queue_that_there_is(name: str) -> None:
    assert isinstance(app.tasks[name], BaseTask)
    assert app.conf.task_routes[name]["queue"] in queues.ALL


def test_no_task_has_a_name_that_is_not_public() -> None:
    ours = {name for name in app.tasks if not name.startswith("celery.")}

    assert ours == set(task_names.ALL)
    assert {app.tasks[name].__module__ for name in ours} == set(TASK_MODULES)


def test_beat_asks_for_known_tasks_on_known_queues_and_lets_late_ones_expire() -> None:
    for entry in app.conf.beat_schedule.values():
        assert entry["task"] in task_names.ALL
        assert entry["options"]["queue"] in queues.ALL
        assert entry["options"]["expires"] <= entry["schedule"]


@pytest.mark.parametrize("queue", ["retroscribe.submti", "celery", "retroscribe"])
def test_an_unknown_queue_is_an_error_at_send_and_never_a_new_queue(queue: str) -> None:
    with pytest.raises(QueueNotFound, match=queue):
        app.send_task(task_names.TRACK, kwargs={}, queue=queue)

    assert set(app.amqp.queues) == set(queues.ALL)


def test_priority_steps_and_key_prefix_are_left_alone_so_that_any_producer_may_send() -> None:
    options = app.conf.broker_transport_options

    assert not {"priority_steps", "global_keyprefix"} & options.keys()
    assert options["queue_order_strategy"] == "priority"


def test_only_the_intake_keeps_a_result() -> None:
    kept = {name for name in task_names.ALL if not app.tasks[name].ignore_result}

    assert kept == {task_names.ENQUEUE}
