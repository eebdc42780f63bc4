"""What workers tell Flower, heard on the broker as it is sent."""

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.valkey import Valkey


class Heard:
    """Collects messages with events of tasks from its beginning on."""

    def __init__(self, subscription: Any) -> None:
        self._subscription = subscription

    def bunches(self) -> list[list[dict[str, Any]]]:
        """The events of tasks in each message that has come since the last time."""
        messages = iter(lambda: self._subscription.get_message(timeout=1), None)
        return [body for message in messages if isinstance(body := _body(message), list)]


@contextmanager
def listening(broker: Valkey) -> Iterator[Heard]:
    with broker.client() as client, client.pubsub(ignore_subscribe_messages=False) as subscription:
        subscription.psubscribe("*celeryev*")
        assert subscription.get_message(timeout=5)["type"] == "psubscribe"
        yield Heard(subscription)


def _body(message: dict[str, Any]) -> Any:
    return json.loads(b64decode(json.loads(message["data"])["body"]))
