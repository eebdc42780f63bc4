"""The limiter's script as a Python object, with what a process remembers between calls of it."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
import structlog

from workers.errors import LimiterUnavailable
from workers.model import CallClass

log = structlog.get_logger(__name__)

#: The parts in the order in which they use each other.
SOURCE: Final = "\n".join(
    Path(__file__).with_name(f"{part}.lua").read_text(encoding="utf-8") for part in ("learning", "lanes", "limiter")
)


class Answer(NamedTuple):
    """What the script answers, see its head; moments and waits are microseconds."""

    word: str
    now: int
    wait: int
    slot: int
    epoch: int
    gate: int
    failures: int
    reason: str


class _Gate(NamedTuple):
    """A closed gate: its end by the server's clock in microseconds, and about when that is on our monotonic clock."""

    moment: float
    until: float
    reason: str


_NO_GATE = _Gate(0, 0, "")


class Script:
    """Runs the script, and puts a gate back that this process has seen and Redis has lost.

    `buckets` says for each class of calls whose limit it draws on, `limits` what is published for each bucket (permits
    per second), of which the share `ceiling` is used at most.
    """

    def __init__(
        self,
        client: redis.Redis,
        client_key: str,
        *,
        buckets: Mapping[CallClass, CallClass],
        limits: Mapping[CallClass, float],
        ceiling: float,
    ) -> None:
        self._script = client.register_script(SOURCE)
        self._limits = {call_class: limits[bucket] for call_class, bucket in buckets.items()}
        self._ceiling = ceiling
        self._keys = {
            call_class: _keys(f"retroscribe:limit:{{{client_key}}}", call_class, buckets) for call_class in buckets
        }
        self._lock = threading.Lock()
        self._gates: dict[CallClass, _Gate] = {}
        self._failures: dict[CallClass, int] = {}

    def run(self, call_class: CallClass, command: str, *arguments: float | str) -> tuple[Answer, list[Any]]:
        """The answer, and what follows it; raises LimiterUnavailable when Redis fails in any way."""
        try:
            published = (self._limits[call_class], self._ceiling)
            raw = self._script(keys=self._keys[call_class], args=[command, *published, *arguments])
        except redis.RedisError as error:
            raise LimiterUnavailable(f"No permits: Redis does not answer as it should ({error}).") from error
        values: list[Any] = [value.decode() if isinstance(value, bytes) else value for value in raw]
        answer = Answer(*values[:8])
        self._see(call_class, answer)
        return answer, values[8:]

    def ask(self, call_class: CallClass, command: str, *arguments: float | str) -> Answer:
        """As `run`, for what depends on the gate: first puts back one that was lost, which voids what was granted."""
        answer, _ = self.run(call_class, command, *arguments)
        known = self._gates[call_class]
        left = known.until - time.monotonic()
        if answer.gate >= known.moment or left <= 0:
            return answer
        log.warning("limiter_gate_put_back", call_class=str(call_class), seconds=round(left, 1))
        restored, _ = self.run(call_class, "close_gate", round(left * 1e6), known.reason, 0, "")
        self._see(call_class, restored, put_back=True)
        return self.run(call_class, command, *arguments)[0]

    def remember_gate(self, call_class: CallClass, seconds: float, reason: str) -> None:
        """Keeps a gate that Redis could not be told of, for the next `ask`."""
        unsent = _Gate(float("inf"), time.monotonic() + seconds, reason)
        with self._lock:
            self._gates[call_class] = max(unsent, self._gates.get(call_class, _NO_GATE), key=lambda gate: gate.until)

    def saw_failures(self, call_class: CallClass) -> bool:
        """Whether calls had failed in a row when Redis was asked last."""
        return self._failures.get(call_class, 0) > 0

    def _see(self, call_class: CallClass, answer: Answer, *, put_back: bool = False) -> None:
        """Remembers failures and the gate; one that has not passed yields only to a later one, or once put back."""
        until = time.monotonic() + (answer.gate - answer.now) / 1e6
        with self._lock:
            self._failures[call_class] = answer.failures
            known = self._gates.get(call_class, _NO_GATE)
            if put_back or answer.gate >= known.moment or known.until <= time.monotonic():
                self._gates[call_class] = _Gate(answer.gate, until, answer.reason)


def _keys(prefix: str, call_class: CallClass, buckets: Mapping[CallClass, CallClass]) -> list[str]:
    """The script's keys, in its order."""
    bucket = buckets[call_class]
    others = [other for other in buckets if other != call_class and buckets[other] == bucket]
    gates = [f"{prefix}:{one}:gate" for one in (call_class, *others)]
    return [f"{prefix}:{bucket}", f"{prefix}:{call_class}:counts", *gates]
