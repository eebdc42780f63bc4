"""Celery's configuration where the broker is RabbitMQ: quorum queues, confirmed messages, delays kept by the server."""

import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from kombu import Exchange, Queue

from config import queues

#: The first version whose quorum queues let messages expire, which delays and what beat sends rest on.
OLDEST: Final = (3, 10)
#: A lost server, or worker, is noticed after twice this.
HEARTBEAT_SECONDS: Final = 30

# Delays need a topic exchange: a queue named by a delayed message's routing key is found by the key's end.
_EXCHANGE: Final = Exchange("retroscribe", type="topic")
# And nothing else, such as a delivery limit: other apps would have to declare the same. Policies can set the rest.
_ARGUMENTS: Final = {"x-queue-type": "quorum"}
_TRANSPORT: Final = {
    # A message counts as sent when the server has it on disk, on most nodes of a cluster.
    "confirm_publish": True,
    "read_timeout": 10,
    "write_timeout": 10,
    # How long a sender without a connection tries to get one: a person or a web request waits for it.
    "connect_retries_timeout": 1,
    "interval_start": 0.2,
    "interval_step": 0.2,
}


def speaks_amqp(url: str) -> bool:
    return urlsplit(url).scheme in ("amqp", "amqps")


def rabbitmq_settings(url: str) -> dict[str, Any]:
    """What Celery's configuration has on top of, or instead of, that for Redis."""
    settings: dict[str, Any] = {
        "broker_transport_options": _TRANSPORT,
        "broker_heartbeat": HEARTBEAT_SECONDS,
        "task_queues": [
            Queue(name, _EXCHANGE, routing_key=name, queue_arguments=_ARGUMENTS.copy()) for name in queues.ALL
        ],
    }
    parts = urlsplit(url)
    if parts.scheme == "amqps":
        # Left to itself, py-amqp takes any certificate that somebody trusted has signed, for whichever host.
        settings["broker_use_ssl"] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": parts.hostname}
    return settings


def queue_of(routing_key: str) -> str:
    """The queue that a message was sent to, from its routing key, which has the bits of its delay before that."""
    return next((name for name in queues.ALL if f".{routing_key}".endswith(f".{name}")), routing_key)
