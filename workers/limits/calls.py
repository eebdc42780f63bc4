"""What became of the fleet's calls to the API and how long they took, counted in Redis for whoever asks."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import redis
import structlog

from workers.errors import LimiterUnavailable
from workers.model import CallClass

log = structlog.get_logger(__name__)

# retroscribe:calls:{<client>}   hash, gone 30 days after the last call of the client:
#   <class>:status:<status>   number   calls that ended so: an HTTP status, `no_answer` or `not_sent`
#   <class>:within:<bound>    number   calls that took no more seconds than this bound and more than the one before it
#   <class>:microseconds      number   what all of them took together
_LIVES_SECONDS: Final = 30 * 86_400
#: Upper bounds of how long calls take, in seconds; a call ends after 25.
BOUNDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)
BEYOND: Final = "+Inf"
#: What a process has counted goes to Redis that often, so that no call waits for it.
TELL_EVERY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of a class: how many ended with each status, how many took how long by bound, and their sum."""

    by_status: Mapping[str, int] = field(default_factory=dict)
    within: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class CallCounts:
    """Counts calls for the whole fleet; one object a process, shared by its threads.

    A call is counted in memory, and a thread of its own tells Redis each second. What can't be told, or was not yet
    when a process dies, is not counted: figures must never cost a call.
    """

    def __init__(self, client: redis.Redis, client_key: str) -> None:
        self._redis = client
        self._key = f"retroscribe:calls:{{{client_key}}}"
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()
        self._teller: threading.Thread | None = None
        self._closing = threading.Event()

    def note(self, call_class: CallClass, status: str, seconds: float) -> None:
        """Counts one call; takes microseconds and asks nobody."""
        bound = next((f"{bound:g}" for bound in BOUNDS if seconds <= bound), BEYOND)
        with self._lock:
            self._counted[f"{call_class}:status:{status}"] += 1
            self._counted[f"{call_class}:within:{bound}"] += 1
            self._counted[f"{call_class}:microseconds"] += round(seconds * 1e6)
            if self._teller is None:
                self._teller = threading.Thread(target=self._keep_telling, name="call-counts", daemon=True)
                self._teller.start()

    def read(self) -> dict[CallClass, Calls]:
        """What the fleet has counted since Redis was wiped last; raises LimiterUnavailable when it does not answer."""
        try:
            raw = self._redis.hgetall(self._key)
        except redis.RedisError as error:
            raise LimiterUnavailable(f"No figures: Redis does not answer as it should ({error}).") from error
        found = {_text(name): int(value) for name, value in raw.items()}
        return {call_class: _calls(found, f"{call_class}:") for call_class in CallClass}

    def close(self) -> None:
        """Tells what is left."""
        self._closing.set()
        if self._teller is not None:
            self._teller.join()

    def _keep_telling(self) -> None:
        while not self._closing.wait(TELL_EVERY_SECONDS):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            counted, self._counted = self._counted, Counter()
        if not counted:
            return
        try:
            with self._redis.pipeline(transaction=True) as pipe:
                for name, number in counted.items():
                    pipe.hincrby(self._key, name, number)
                pipe.expire(self._key, _LIVES_SECONDS)
                pipe.execute()
        except redis.RedisError as error:
            calls = sum(number for name, number in counted.items() if ":status:" in name)
            log.warning("call_counts_lost", calls=calls, error=type(error).__name__)


def _calls(found: Mapping[str, int], prefix: str) -> Calls:
    mine = {name.removeprefix(prefix): number for name, number in found.items() if name.startswith(prefix)}
    by_status = {name.removeprefix("status:"): number for name, number in mine.items() if name.startswith("status:")}
    bounds = [*(f"{bound:g}" for bound in BOUNDS), BEYOND]
    within = {bound: mine.get(f"within:{bound}", 0) for bound in bounds}
    return Calls(by_status, within, mine.get("microseconds", 0) / 1e6)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
