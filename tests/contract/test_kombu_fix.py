"""What kombu does when a connection is closed twice, and how many Redis clients it makes: cured and as it is."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.urls import kombu_url
from tests.support.command import bare_environment
from tests.support.valkey import Valkey

#: A consumer with an unacknowledged message waits for the next one, beside a channel that has one too, when the broker
#: dies. Then what `Consumer.on_connection_error_after_connected` of Celery 5.7 does.
CLOSES_TWICE = """
import socket, sys
from contextlib import suppress
import redis
from kombu import Connection, Consumer, Queue
from workers import kombu_fix

url, server, cure = sys.argv[1:]
if cure == "cured":
    kombu_fix.apply()
connection = Connection(url)
connection_errors = connection.connection_errors
for queue in ("consumed", "fetched"):
    connection.Producer().publish("a message", routing_key=queue)
Consumer(connection.default_channel, [Queue("consumed")], callbacks=[lambda *_: None]).consume()
connection.drain_events(timeout=10)
with suppress(socket.timeout):
    connection.drain_events(timeout=0.1)
assert connection.channel().basic_get("fetched")
channel = connection.default_channel

redis.Redis.from_url(server).shutdown(nosave=True)
with suppress(Exception):
    connection.collect(socket_timeout=5)
with suppress(*connection_errors):
    connection.close()
print("closed")
with suppress(*connection_errors):
    channel.pool
    print("no error")
"""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path).start()
    yield server
    server.close()


def run(script: str, valkey: Valkey, cure: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, kombu_url(valkey.url), valkey.url, cure],
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_with_the_cure_a_lost_broker_is_a_connection_error_which_celery_survives(valkey: Valkey) -> None:
    ended = run(CLOSES_TWICE, valkey, "cured")

    assert (ended.returncode, ended.stdout) == (0, "closed\n"), ended.stderr


def test_kombu_still_needs_the_cure(valkey: Valkey) -> None:
    ended = run(CLOSES_TWICE, valkey, "bare")

    assert "AttributeError: 'NoneType' object has no attribute 'hostname'" in ended.stderr, (
        "kombu no longer has the fault: remove _meeting_a_closed_connection of workers/kombu_fix.py, with its tests"
    )


#: Prints how many Redis clients one channel makes for ten messages sent, fetched and acknowledged, then whether a
#: channel whose pool is another one since, as after a fork, uses that.
MANY_CLIENTS = """
import sys
import redis
from kombu import Connection, Queue
from workers import kombu_fix

url, _, cure = sys.argv[1:]
if cure == "cured":
    kombu_fix.apply()
made = []
original = redis.Redis.__init__
redis.Redis.__init__ = lambda self, *args, **options: (made.append(self), original(self, *args, **options))[1]

with Connection(url) as connection:
    channel = connection.default_channel
    queue = Queue("used")(channel)
    producer = connection.Producer()
    queue.declare()
    made.clear()
    for number in range(10):
        producer.publish(str(number), routing_key="used")
        queue.get().ack()
    print(len(made))
    before = channel.pool
    channel._disconnect_pools()
    with channel.conn_or_acquire() as client:
        print(channel.pool is not before and client.connection_pool is channel.pool and client.ping())
"""


def clients_of(valkey: Valkey, cure: str) -> tuple[int, str]:
    ended = run(MANY_CLIENTS, valkey, cure)
    assert ended.returncode == 0, ended.stderr
    number, follows = ended.stdout.split()
    return int(number), follows


def test_with_the_cure_a_channel_makes_one_client_and_another_one_for_another_pool(valkey: Valkey) -> None:
    number, follows = clients_of(valkey, "cured")

    assert number <= 1
    assert follows == "True"


def test_kombu_still_makes_a_client_for_each_message(valkey: Valkey) -> None:
    number, _ = clients_of(valkey, "bare")

    assert number >= 20, (
        "kombu keeps its clients by now: remove _once_a_pool from workers/kombu_fix.py, and the tests of it here"
    )
