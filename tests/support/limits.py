"""The limiter for tests: as the product uses it, or its script alone with a clock that the test moves."""

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from workers.sandbox.limits import SUBMIT, Limits

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

    def __init__(self, client: redis.Redis, rate: float, ceiling: float = 1) -> None:
        source = SOURCE.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}")
        assert source != SOURCE
        self._client = client
        self._script = client.register_script(source)
        self.key = f"limit:{uuid4().hex}"
        self.rate = rate
        self.ceiling = ceiling
        self.interval = ceil(SECOND / rate)
        self.lag = min(LAG, self.interval // 2)
        self.now = START

    def run(self, command: str, *arguments: int | str) -> Answer:
        return Answer(*self.raw(command, *arguments)[:8])

    def raw(self, command: str, *arguments: int | str) -> list[Any]:
        moment = divmod(self.now, SECOND)
        keys = [self.key, f"{self.key}:counts", f"{self.key}:gate"]
        raw = self._script(keys=keys, args=[command, self.rate, self.ceiling, *arguments, *moment])
        return [value.decode() if isinstance(value, bytes) else value for value in raw]

    def acquire(self, horizon: int = SECOND, lane: str = "backfill", call_class: str = "submit") -> Answer:
        return self.run("acquire", horizon, LEASE, lane, call_class)

    def close(self, seconds: float, reason: str = "429") -> Answer:
        return self.run("close_gate", round(seconds * SECOND), reason, int(reason == "429"), "")

    def settle(self, permit: Answer, ok: bool, immediately: bool = False) -> Answer:
        return self.run("settle", permit.epoch, int(ok), int(immediately), "failing")

    def field(self, name: str) -> float:
        """A field of the pace."""
        return float(self._client.hget(self.key, name) or 0)

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


@dataclass(frozen=True)
class Played:
    """What a server counted, second by second."""

    columns: Mapping[str, list[float]]

    def share(self, since: int = 0, until: int | None = None) -> float:
        """Of what was available, in these seconds."""
        return sum(self.columns["passed"][since:until]) / sum(self.columns["available"][since:until])

    def rejected(self, since: int = 0, until: int | None = None) -> float:
        """The share of our calls that were answered 429."""
        rejected, passed = (sum(self.columns[name][since:until]) for name in ("rejected_429", "passed"))
        return rejected / (rejected + passed)


class Server:
    """The sandbox's limits on a bucket's clock, and a fleet that always has work and calls as the script lets it."""

    def __init__(self, bucket: Bucket, kind: str, rate: float, *, seed: int = 0, latency: float = 0.012) -> None:
        self._bucket = bucket
        self._random = random.Random(seed)
        self._latency = latency
        self._now = bucket.now / SECOND
        self._permits: deque[Answer] = deque()
        self.limits = Limits(kind, rate, shared=False, clock=lambda: self._now)
        bucket.now += self._random.randrange(SECOND // 2)

    def play(self, seconds: float) -> Played:
        """Calls for so long, and gives what the server counted since it began."""
        bucket, end = self._bucket, self._bucket.now + round(seconds * SECOND)
        while bucket.now < end:
            answer = self._reserve()
            if self._permits:
                self._call(self._permits.popleft())
            else:
                bucket.now += max(answer.wait, 1000) + self._random.randrange(2000)
        self._now = bucket.now / SECOND
        return Played(self.limits.series())

    def _reserve(self) -> Answer:
        """Reserves all slots within reach, as many waiting threads do; gives the answer that was none."""
        while (answer := self._bucket.acquire()).word in {"slot", "canary"}:
            self._permits.append(answer)
        return answer

    def _call(self, permit: Answer) -> None:
        bucket = self._bucket
        bucket.now = max(bucket.now, permit.slot)
        self._now = bucket.now / SECOND + self._latency / 2 + abs(self._random.gauss(0, 0.002))
        retry_after_seconds = self.limits.take(SUBMIT)
        told = self.limits.headers(SUBMIT)
        bucket.now += round(self._latency * SECOND)
        if retry_after_seconds is not None:
            length = ceil((retry_after_seconds + self._random.random() / 10) * SECOND)
            bucket.run("close_gate", length, "429", 1, permit.epoch)
            self._permits.clear()
        elif permit.word == "canary":
            bucket.settle(permit, ok=True)
        if told and retry_after_seconds is None:
            bucket.run("observe", *(told[f"inin-ratelimit-{name}"] for name in ("count", "allowed", "reset")))
