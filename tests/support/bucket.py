"""One bucket of the limiter: the real script on a real server, with a clock that the test moves."""

from math import ceil
from typing import Any
from uuid import uuid4

import redis

from workers.limits.script import SOURCE, Answer

SECOND = 1_000_000
LAG = 10_000
START = 1_790_000_000 * SECOND
LEASE = 30 * SECOND


class Bucket:
    """One new bucket and its clock."""

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
        raw = self._script(keys=[self.key, self.key + ":counts"], args=[command, self.rate, *arguments, *moment])
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
