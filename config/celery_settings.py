"""Celery's configuration: what a test with killed workers and brokers showed to hold."""

from typing import Any

from kombu import Exchange, Queue

from config import queues, task_names
from config.rabbitmq import rabbitmq_settings, speaks_amqp
from config.settings import Settings

# Longer than the longest task (60 s of waiting for a permit and 25 s of a call, with room), because Redis delivers a
# message again when it has not been acknowledged for this long.
VISIBILITY_TIMEOUT_SECONDS = 600
PUMP_INTERVAL_SECONDS = 1.0
SWEEP_INTERVAL_SECONDS = 5.0
TASK_MODULES = ("tasks.intake", "tasks.validate", "tasks.submit", "tasks.track", "tasks.index", "tasks.maintenance")

_PUBLISH_RETRIES = {"max_retries": 60, "interval_start": 0.2, "interval_step": 0.5, "interval_max": 2}

# Neither priority_steps nor global_keyprefix: other apps' producers would have to set the same. Socket timeouts
# everywhere: a publisher without them waits for ever on a frozen broker.
_REDIS_TRANSPORT = {
    "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "unacked_restore_limit": 200,
    "unacked_mutex_expire": 30,
    "queue_order_strategy": "priority",
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    # How long a sender without a connection tries to get one: a person or a web request waits for it.
    "connect_retries_timeout": 1,
    "interval_start": 0.2,
    "interval_step": 0.2,
}


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Celery's configuration for these settings."""
    broker = settings.effective_broker_url
    return _for_any_broker(settings) | (rabbitmq_settings(broker) if speaks_amqp(broker) else _for_redis())


def _for_redis() -> dict[str, Any]:
    return {
        "broker_transport_options": _REDIS_TRANSPORT,
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in queues.ALL],
    }


def _for_any_broker(settings: Settings) -> dict[str, Any]:
    return {
        "broker_url": settings.effective_broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": settings.effective_result_url,
        "result_expires": 24 * 3600,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": "+socket" not in settings.effective_result_url,  # which knows no keep-alive
        "redis_retry_on_timeout": True,
        "imports": TASK_MODULES,
        "task_default_queue": queues.CONTROL,
        "task_create_missing_queues": False,
        "task_routes": {
            task_names.ENQUEUE: {"queue": queues.INTAKE},
            task_names.VALIDATE: {"queue": queues.VALIDATE},
            task_names.SUBMIT: {"queue": queues.SUBMIT},
            task_names.TRACK: {"queue": queues.TRACK},
            task_names.INDEX: {"queue": queues.INDEX},
            task_names.POLL: {"queue": queues.POLL},
            task_names.PUMP: {"queue": queues.CONTROL},
            task_names.SWEEP: {"queue": queues.CONTROL},
        },
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_acks_late": True,
        "task_retry_on_worker_lost": True,
        "task_ignore_result": True,
        "task_publish_retry_policy": _PUBLISH_RETRIES,
        "task_send_sent_event": False,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
        "worker_pool": "threads",
        "worker_consumer": "workers.consumer:Consumer",
        "worker_disable_rate_limits": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "beat_max_loop_interval": 1,
        "beat_schedule": {
            "pump": _every(task_names.PUMP, PUMP_INTERVAL_SECONDS),
            "sweep": _every(task_names.SWEEP, SWEEP_INTERVAL_SECONDS),
        },
        "timezone": "UTC",
        "enable_utc": True,
    }


def _every(task: str, seconds: float) -> dict[str, Any]:
    # A message older than its interval is worthless: the next one does the same.
    return {"task": task, "schedule": seconds, "options": {"queue": queues.CONTROL, "expires": seconds}}
