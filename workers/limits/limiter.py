"""Leave to call the API: at most the rate that the limit allows, over every process of the fleet.

All state is in Redis and changed by one script, `limiter.lua`, whose head explains it; the clock is the Redis server's.
What the API lets through is learned from its 429s and from what it tells of its window, see `learning.lua`.

In any window of W seconds, however the callers race, at most `rate * (W + 0.01) + 1` slots lie: a slot may be taken up
to 10 ms late (half an interval, if that is less) without moving the slots after it.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import redis
import structlog

from workers.errors import LimiterUnavailable, RateLimited
from workers.limits.script import Answer, Script
from workers.model import CallClass, Lane

log = structlog.get_logger(__name__)

HORIZON_SECONDS = 1.0
SLICE_SECONDS = 0.5
IMMEDIATE_SECONDS = 0.005
GATE_JITTER_SECONDS = 0.1
# A thread that comes to its slot later than this was frozen, others with it perhaps: together they would be a burst.
LATE_SECONDS = 1.0
# How long one waits beyond the moment at which a slot comes within the horizon. Less than the horizon, so that slots
# remain reserved ahead for as long as anybody waits; random, so that the waiting don't come all at once.
ASK_AGAIN_SECONDS: Final = {Lane.LIVE: (0.05, 0.2), Lane.BACKFILL: (0.4, 0.8)}
# Longer waits for the gate are limited to `max_waiters` threads; a canary is waited for in steps that grow up to 1 s.
LONG_GATE_SECONDS = 2.0
LONG_CANARY_STEP_SECONDS = 1.0
#: What the API tells of its window is passed on that often at most, a process and class.
OBSERVE_EVERY_SECONDS = 0.1
# A call that has to be written down first leaves so long after its slot. Writing takes now 2, now 30 ms; without this
# moment of patience calls would bunch, and a server that counts each second strictly would refuse one.
STEADY_SECONDS = 0.05
#: The reason of a gate that a 429 closed.
REJECTED: Final = "429"


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call at `slot` (seconds on the Redis server's clock), void once the gate has changed (`epoch`).

    A `canary` goes first after a closed gate: all others wait until it is settled, or its lease ends. `after_outage`:
    it is one, and the gate was closed because calls failed, not for a 429. `steady_at` (`time.monotonic()` of this
    process) is when a call should leave that takes a moment to prepare, so that calls leave as evenly as their slots.
    """

    call_class: CallClass
    slot: float
    epoch: int
    canary: bool
    after_outage: bool
    steady_at: float


@dataclass(frozen=True, slots=True)
class LimiterState:
    """How a call class stands; rates are per second and shared by all classes on the same bucket, but for granted ones.

    `configured` is the limit in force: the published one, or what was set at run time. `learned` is what the API was
    found to let through, None while it has refused nothing; `others` what others take of the limit, None unless the API
    tells. `gate_seconds` is 0 and `gate_reason` None when the gate is open. `probing`: no call has succeeded since the
    gate was closed, so one goes at a time. Granted are the slots of whole seconds that have passed, void ones included.
    """

    call_class: CallClass
    configured: float
    ceiling_rate: float
    rate: float
    learned: float | None
    others: float | None
    gate_seconds: float
    gate_reason: str | None
    probing: bool
    failures: int
    rejected_last_minute: int
    granted_last_minute: int
    granted_per_second: float


class Limiter:
    """Hands out permits; one object a process, shared by its threads.

    `limits` are the published ones, per second; at most the share `ceiling` of each is used. `shared`: all classes but
    token draw on submit's limit. At most `max_waiters` threads of this process wait for one class while its gate is
    closed for more than 2 s, the rest is refused at once. Setting `stop` ends every wait.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        client_key: str,
        limits: Mapping[CallClass, float],
        ceiling: float = 0.99,
        shared: bool = False,
        max_waiters: int | None = None,
        stop: threading.Event | None = None,
        canary_lease_seconds: float = 30.0,
    ) -> None:
        self._buckets = {one: CallClass.SUBMIT if shared and one != CallClass.TOKEN else one for one in CallClass}
        self._script = Script(client, client_key, buckets=self._buckets, limits=limits, ceiling=ceiling)
        self._ceiling = ceiling
        self._max_waiters = max_waiters
        self._stop = stop or threading.Event()
        self._lease = _microseconds(canary_lease_seconds)
        self._lock = threading.Lock()
        self._waiting: Counter[CallClass] = Counter()
        self._observed_at: dict[CallClass, float] = {}

    def acquire(self, call_class: CallClass, *, lane: Lane = Lane.BACKFILL, max_wait_seconds: float = 60.0) -> Permit:
        """Waits for leave to make one call, at most `max_wait_seconds`, and returns when its slot has come.

        Make the call at once, then `settle`; if it isn't made, `give_back`. Live work goes before the backfill, which
        has a tenth for sure; on a shared bucket status look-ups have a twentieth, and submissions what the rest leaves.
        Raises RateLimited with `retry_after_seconds` when the wait would be longer, too many threads wait for the gate
        or the process stops; LimiterUnavailable when Redis is down: then no call may be made.
        """
        deadline = time.monotonic() + max_wait_seconds
        while True:
            self._sleep(0)
            horizon = min(HORIZON_SECONDS, max(0.0, deadline - time.monotonic()))
            answer = self._script.ask(
                call_class, "acquire", _microseconds(horizon), self._lease, str(lane), str(call_class)
            )
            if answer.word not in {"slot", "canary"}:
                self._wait_to_ask_again(call_class, lane, answer, deadline)
                continue
            permit = _permit(call_class, answer)
            if self._reach(permit, answer.wait / 1e6):
                return permit

    def is_open(self, permit: Permit) -> bool:
        """Whether the gate is as it was when the permit was given; if not, the call must not be made.

        Raises LimiterUnavailable when Redis is down: then the call must not be made either.
        """
        return self._check(permit).word == "open"

    def give_back(self, permit: Permit) -> None:
        """Returns a permit that was not used: always safe; frees the slot if it is the newest, and a canary's duty."""
        self._report(permit.call_class, "give_back", permit.epoch, _microseconds(permit.slot))

    def close_gate(self, call_class: CallClass, seconds: float, reason: str, permit: Permit | None = None) -> None:
        """Lets no call go for `seconds` and up to 0.1 s more, and voids all slots; a gate closed for longer stays.

        The reason `429` is counted as a rejection and lowers the rate, unless the call's `permit` is from before the
        last change of the gate. When Redis is down, this process remembers and closes it later.
        """
        seconds += random.uniform(0, GATE_JITTER_SECONDS)  # noqa: S311 no secret
        epoch = permit.epoch if permit else ""
        if not self._report(call_class, "close_gate", _microseconds(seconds), reason, int(reason == REJECTED), epoch):
            self._script.remember_gate(call_class, seconds, reason)

    def settle(self, permit: Permit, ok: bool, *, immediately: bool = False, reason: str | None = None) -> None:  # noqa: FBT001
        """Says what became of a permitted call, once after each but a 429, for which `close_gate` is enough.

        `ok`: the API answered and meant it, be it a refusal. Not ok, in the fleet five times in a row or for a fifth of
        the calls of 30 s, or once with `immediately` (unreachable) or for a canary, closes the gate for 1, 2, 4 ...
        300 s; a success ends the row. Asks Redis only for a canary or while there are failures.
        """
        if ok and not permit.canary and not self._script.saw_failures(permit.call_class):
            return
        reason = reason or ("unreachable" if immediately else "failing")
        self._report(permit.call_class, "settle", permit.epoch, int(ok), int(immediately), reason)

    def observe(self, call_class: CallClass, count: float, allowed: float, reset_seconds: float) -> None:
        """Takes what the API said of its window: `count` calls of `allowed`, and about `reset_seconds` until it ends.

        The rate is bound to what the others, whose calls count as well, will leave of it.
        """
        now = time.monotonic()
        if now - self._observed_at.get(call_class, 0.0) >= OBSERVE_EVERY_SECONDS:
            self._observed_at[call_class] = now
            self._report(call_class, "observe", count, allowed, reset_seconds)

    def set_limit(self, call_class: CallClass, per_second: float | None) -> None:
        """Puts a limit in force for the bucket of the class, fleet-wide and at once; None: the published one again.

        What was learned is forgotten when that changes something. Raises LimiterUnavailable when Redis is down. A wiped
        Redis forgets it: say it again from time to time.
        """
        self._script.run(call_class, "set_limit", per_second or 0)

    def bucket(self, call_class: CallClass) -> CallClass:
        """The class whose limit this one draws on."""
        return self._buckets[call_class]

    def snapshot(self, call_class: CallClass) -> LimiterState:
        """How the class stands now; changes nothing. Raises LimiterUnavailable when Redis is down."""
        answer, (rate, probing, rejected, minute, ten_seconds, limit, mark, others) = self._script.run(
            call_class, "peek"
        )
        gate_seconds = max(0, answer.gate - answer.now) / 1e6
        return LimiterState(
            call_class=call_class,
            configured=float(limit),
            ceiling_rate=float(limit) * self._ceiling,
            rate=float(rate),
            learned=float(mark) or None,
            others=None if float(others) < 0 else float(others),
            gate_seconds=gate_seconds,
            gate_reason=answer.reason if gate_seconds else None,
            probing=bool(int(probing)),
            failures=answer.failures,
            rejected_last_minute=int(rejected),
            granted_last_minute=int(minute),
            granted_per_second=int(ten_seconds) / 10,
        )

    def _reach(self, permit: Permit, wait_seconds: float) -> bool:
        """Sleeps until the slot; False: it is void or passed too long ago."""
        try:
            self._sleep(wait_seconds)
        except RateLimited:
            self.give_back(permit)
            raise
        if wait_seconds < IMMEDIATE_SECONDS:
            return True
        answer = self._check(permit)
        if answer.word == "open" and answer.now / 1e6 - permit.slot < LATE_SECONDS:
            return True
        self.give_back(permit)
        return False

    def _wait_to_ask_again(self, call_class: CallClass, lane: Lane, answer: Answer, deadline: float) -> None:
        wait = answer.wait / 1e6
        crowding = (answer.word == "gate" and wait > LONG_GATE_SECONDS) or (
            answer.word == "probing" and wait >= LONG_CANARY_STEP_SECONDS
        )
        if answer.word == "later":
            why = "the limit is used up"
            wait += random.uniform(*ASK_AGAIN_SECONDS[lane])  # noqa: S311 no secret
        else:
            why = f"the gate was closed ({answer.reason})"
            wait += random.uniform(0, GATE_JITTER_SECONDS)  # noqa: S311 no secret
        if time.monotonic() + wait > deadline:
            raise RateLimited(f"No permit for a {call_class} call in time: {why}.", wait)
        with self._seat(call_class, crowding=crowding) as seated:
            if not seated:
                raise RateLimited(f"No permit for a {call_class} call: {why}, and enough threads wait for it.", wait)
            self._sleep(wait)

    @contextmanager
    def _seat(self, call_class: CallClass, *, crowding: bool) -> Iterator[bool]:
        """Whether this thread may wait; `crowding` waits are limited, so that other classes find threads."""
        if not crowding or self._max_waiters is None:
            yield True
            return
        with self._lock:
            seated = self._waiting[call_class] < self._max_waiters
            self._waiting[call_class] += seated
        try:
            yield seated
        finally:
            with self._lock:
                self._waiting[call_class] -= seated

    def _sleep(self, seconds: float) -> None:
        """Returns when the time is over, raises RateLimited as soon as the process stops."""
        until = time.monotonic() + seconds
        while not self._stop.is_set():
            left = until - time.monotonic()
            if left <= 0:
                return
            self._stop.wait(min(left, SLICE_SECONDS))
        raise RateLimited("No permit: this process is stopping.", 1.0)

    def _check(self, permit: Permit) -> Answer:
        return self._script.ask(permit.call_class, "check", permit.epoch)

    def _report(self, call_class: CallClass, command: str, *arguments: float | str) -> bool:
        """Runs a command whose loss costs time, never a call too many; False when it was lost."""
        try:
            self._script.run(call_class, command, *arguments)
        except LimiterUnavailable:
            log.warning("limiter_report_lost", call_class=call_class, command=command)
            return False
        return True


def _permit(call_class: CallClass, granted: Answer) -> Permit:
    canary = granted.word == "canary"
    after_outage = canary and granted.reason != REJECTED
    steady_at = time.monotonic() + granted.wait / 1e6 + STEADY_SECONDS
    return Permit(call_class, granted.slot / 1e6, granted.epoch, canary, after_outage, steady_at)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
