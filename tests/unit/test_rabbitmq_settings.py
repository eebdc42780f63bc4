"""What Celery is told where the broker is RabbitMQ, and that it is told nothing new where it is Redis."""

import ssl
from typing import Any

import pytest

from config import queues
from config.celery_settings import celery_settings
from config.rabbitmq import queue_of
from config.settings import Settings

AMQP = "amqp://user:word@broker.internal/calls"


def told(url: str | None, redis_url: str | None = None) -> dict[str, Any]:
    return celery_settings(Settings(broker_url=url, redis_url=redis_url))


def test_every_queue_is_a_quorum_queue_and_nothing_more_so_that_other_apps_can_declare_the_same() -> None:
    declared = told(AMQP)["task_queues"]

    assert [queue.name for queue in declared] == list(queues.ALL)
    assert all(queue.queue_arguments == {"x-queue-type": "quorum"} for queue in declared)
    assert all(queue.durable and not queue.auto_delete and not queue.exclusive for queue in declared)


def test_a_message_is_confirmed_and_no_wait_for_an_answer_is_without_end() -> None:
    options = told(AMQP)["broker_transport_options"]

    assert options["confirm_publish"]
    assert 0 < options["read_timeout"] <= 10
    assert 0 < options["write_timeout"] <= 10
    assert "visibility_timeout" not in options


@pytest.mark.parametrize("url", [None, "redis://other:6379/0"])
def test_redis_is_told_what_it_was_always_told(url: str | None) -> None:
    settings = told(url, "redis://here:6379/0")

    assert settings["broker_url"] == (url or "redis://here:6379/0")
    assert settings["broker_transport_options"]["queue_order_strategy"] == "priority"
    assert all(not queue.queue_arguments for queue in settings["task_queues"])
    assert not settings.keys() & {"broker_use_ssl", "broker_heartbeat"}


def test_answers_and_permits_stay_in_redis_whichever_broker_there_is() -> None:
    settings = Settings(broker_url=AMQP, redis_url="redis://here:6379/0")

    assert settings.effective_broker_url == AMQP
    assert settings.effective_redis_url == settings.effective_result_url == "redis://here:6379/0"
    assert Settings(broker_url=AMQP).embedded_redis


def test_over_tls_the_certificate_has_to_be_that_of_the_host() -> None:
    asked = told("amqps://user:word@broker.internal:5671/calls")["broker_use_ssl"]

    assert asked == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "broker.internal"}
    assert "broker_use_ssl" not in told(AMQP)


@pytest.mark.parametrize("name", queues.ALL)
def test_a_delayed_message_is_known_by_the_end_of_its_key(name: str) -> None:
    assert queue_of(name) == name
    assert queue_of(f"{'0.' * 25}1.0.1.{name}") == name
