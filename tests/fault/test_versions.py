"""While a deploy rolls through, messages of the version before and of the one after are worked on."""

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

import redis

from config import queues
from tests.support.desk import queued_recordings
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, assert_nothing_lost_nothing_twice
from workers.model import Recording, State

NUMBER: Final = 6
#: As 0.1.0 names them: whatever is renamed later, these must be understood for as long as such messages may lie there.
STEPS: Final = (("retroscribe.submit", "retroscribe.submit"), ("retroscribe.track", "retroscribe.track"))
FIRST: Final = ("retroscribe.validate", "retroscribe.validate")


def message_of_0_1(recording: Recording) -> dict[str, Any]:
    """What the pump of 0.1.0 puts into the queue, read off a broker: what counts of it for a worker."""
    kwargs = {"recording_id": recording.id, "media_id": recording.media_id, "epoch": recording.epoch}
    options = {"ignore_result": True, "argsrepr": "()", "kwargsrepr": repr(kwargs)}
    links = [
        {
            "task": task,
            "args": [],
            "kwargs": kwargs,
            "options": {**options, "queue": queue, "task_id": str(uuid.uuid4())},
            "subtask_type": None,
            "immutable": True,
        }
        for task, queue in reversed(STEPS)
    ]
    id_ = str(uuid.uuid4())
    task, queue = FIRST
    return _message(
        [[], kwargs, {"callbacks": None, "errbacks": None, "chain": links, "chord": None}],
        headers={"lang": "py", "task": task, "id": id_, "root_id": id_, "retries": 0, **options},
        properties={
            "correlation_id": id_,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    )


def message_of_later(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with one field more in each task, as a later version may send it."""
    args, kwargs, embedded = json.loads(base64.b64decode(message["body"]))
    for one in (kwargs, *(link["kwargs"] for link in embedded["chain"])):
        one["a_later_field"] = {"of": "any kind"}
    return _message([args, kwargs, embedded], headers=message["headers"], properties=message["properties"])


def _waiting_of(media_ids: list[str], broker: redis.Redis) -> int:
    """How many messages for these lie there, beside those that other tests left and the pump may still be sending."""
    messages: Any = broker.lrange(queues.VALIDATE, 0, -1)
    shown = [json.loads(message)["headers"]["kwargsrepr"] for message in messages]
    return sum(any(media_id in one for media_id in media_ids) for one in shown)


def _message(body: object, *, headers: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": dict(headers),
        "properties": dict(properties),
    }


def test_messages_of_the_version_before_and_of_the_one_after_are_worked_on(fleet: Fleet) -> None:
    fleet.kill("pipeline")
    media_ids = fleet.ask("rolling", NUMBER)
    eventually(lambda: fleet.states("rolling")[State.QUEUED] == NUMBER, what="their messages")
    fleet.kill("beat")  # so that nothing is sent again
    old = [message_of_0_1(one) for one in queued_recordings(fleet.resources.ledger)]
    messages = [*old[: NUMBER // 2], *map(message_of_later, old[NUMBER // 2 :])]
    with fleet.broker.client() as broker:
        eventually(lambda: _waiting_of(media_ids, broker) == NUMBER, what="their messages")
        broker.delete(queues.VALIDATE)
        broker.lpush(queues.VALIDATE, *map(json.dumps, messages))

    fleet.start("pipeline")

    assert fleet.finish("rolling").keys() <= {State.INDEXED, State.REJECTED}
    assert fleet.times_in(State.QUEUED, "rolling") == NUMBER
    assert_nothing_lost_nothing_twice(fleet, "rolling")
