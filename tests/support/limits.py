"""The limiter for tests: as the product uses it, or its script alone with a clock that the test moves."""

from collections.abc import Callable
from math import ceil
from typing import Any
from uuid import uuid4

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers.errors import RateLimited
from workers.limits.limiter import Limiter
from workers.limits.script import SOURCE, Answer
from workers.model import CallClass

SECOND = 1_000_000
LAG = 10_000
START = 1_790_000_000 * SECOND
LEASE = 30 * SECOND
PACE = "retroscribe:limit:{client}:submit"
GATE = f"{PACE}:gate"


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))


def limiter(client: redis.Redis, rate: float = 100, **options: Any) -> Limiter:
    return Limiter(client, client_key="client", limits=dict.fromkeys(CallClass, rate), **options)


def warm(client: redis.Redis, rate: float) -> None:
    """Puts the submit bucket past its careful start."""
    client.hset(PACE, "rate", rate)


def refused(call: Callable[[], object]) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        call()
    return caught.value


class Bucket:
    """One new bucket of the real script on a real server, and its clock."""

    def __init__(self, client: redis.Redis, rate: float) -> None:
        source = SOURCE.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}")
        assert source != SOURCE
        self._client = client
        self._script = client.register_script(source)
        self.key = f"limit:{uuid4().hex}"
        self.rate = rate
        self.interval = ceil(SECOND / rate)
        self.lag = min(LAG, self.interval // 2)
        self.now = START

    def run(self, command: str, *arguments: int | str) -> Answer:
        return Answer(*self.raw(command, *arguments)[:8])

    def raw(self, command: str, *arguments: int | str) -> list[Any]:
        moment = divmod(self.now, SECOND)
        keys = [self.key, f"{self.key}:counts", f"{self.key}:gate"]
        raw = self._script(keys=keys, args=[command, self.rate, *arguments, *moment])
        return [value.decode() if isinstance(value, bytes) else value for value in raw]

    def acquire(self, horizon: int = SECOND) -> Answer:
        return self.run("acquire", horizon, LEASE)

    def close(self, seconds: float, reason: str = "429") -> Answer:
        return self.run("close_gate", round(seconds * SECOND), reason, int(reason == "429"))

    def settle(self, permit: Answer, ok: bool, immediately: bool = False) -> Answer:
        return self.run("settle", permit.epoch, int(ok), int(immediately), "failing")

    def drain(self) -> list[int]:
        """Reserves every slot within reach."""
        slots = []
        while (answer := self.acquire()).word == "slot":
            slots.append(answer.slot)
        return slots

    def warm(self) -> "Bucket":
        """Past the careful start: at the ceiling, and idle for a while."""
        self.acquire()
        self._client.hset(self.key, "rate", repr(self.rate))
        self.now += 10 * SECOND
        return self
