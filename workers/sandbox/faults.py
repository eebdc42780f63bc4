"""The faults that can be switched on while the sandbox runs: always, some times, or for a share of the requests."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from workers.errors import InputError
from workers.sandbox.chance import drawn
from workers.sandbox.fault_table import FAULTS, OFF, PARAMETERS, Fault
from workers.sandbox.stats import Stats


@dataclass(frozen=True, slots=True)
class Shares:
    """A fault that each request has or has not by chance: values, and the share of requests that each is for."""

    of: tuple[tuple[Any, float], ...]

    def value_at(self, point: float) -> Any:
        """The value that `point`, from 0 up to 1, falls on; None beyond the last."""
        for value, share in self.of:
            point -= share
            if point < 0:
                return value
        return None

    def shown(self) -> dict[str, float]:
        return {_text(value): share for value, share in self.of}


def read_faults(raw: str | bytes) -> dict[str, Any]:
    """The faults in JSON text, each a value or Shares; raises InputError with one sentence."""
    try:
        wanted = json.loads(raw)
    except ValueError:
        raise InputError('The faults must be JSON, for example {"webhooks": "lost"}.') from None
    if not isinstance(wanted, dict):
        raise InputError(f"The faults must be a JSON object with any of {', '.join(FAULTS)}.")
    return {name: _read(name, value) for name, value in wanted.items()}


class Faults:
    """Which faults are on, and how often each may still happen.

    Shares repeat: whether a request is hit depends on the seed, on what it is about, and on how many of its kind about
    the same there were since the faults were set, never on the requests about anything else.
    """

    def __init__(self, seed: int, stats: Stats) -> None:
        self._seed = seed
        self._stats = stats
        self.replace({})

    def replace(self, wanted: dict[str, Any]) -> bool:
        """Switches on exactly `wanted`, from `read_faults`; true when existing tokens are to be revoked as well.

        `count` limits each of the others to that many times.
        """
        active = {name: value for name, value in wanted.items() if value not in OFF}
        count = active.pop("count", None)
        revoke = active.get("revoke_tokens") is True
        if revoke:
            del active["revoke_tokens"]
            self._stats.faults_used["revoke_tokens=true"] += 1
        self._active = active
        self._remaining = {} if count is None else {name: count for name in active if name not in PARAMETERS}
        self._by_chance = any(isinstance(value, Shares) for value in active.values())
        self._ordinals: defaultdict[str, Counter[str]] = defaultdict(Counter)
        return revoke

    def turn(self, kind: str, subject: str) -> str:
        """Names a request of this kind about this subject, for `take`: the first, the second ... of these."""
        if not self._by_chance:
            return ""
        ordinals = self._ordinals[kind]
        ordinals[subject] += 1
        return f"{kind}:{subject}:{ordinals[subject]}"

    def setting(self, name: str, default: Any = None) -> Any:
        """The value of one of PARAMETERS."""
        return self._active.get(name, default)

    def take(self, name: str, turn: str) -> Any:
        """The fault's value for the request that `turn` names, None when it has none; uses up one of its `count`."""
        value = self._active.get(name)
        if isinstance(value, Shares):
            value = value.value_at(drawn(self._seed, name, turn))
        if value is None or value in OFF:
            return None
        self._stats.faults_used[f"{name}={_text(value)}"] += 1
        if name in self._remaining:
            self._remaining[name] -= 1
            if self._remaining[name] == 0:
                del self._remaining[name], self._active[name]
        return value

    def shown(self) -> dict[str, Any]:
        """What is on, in the form it is put in; `count` is what is left of it."""
        active = {name: value.shown() if isinstance(value, Shares) else value for name, value in self._active.items()}
        return active | ({"count": max(self._remaining.values())} if self._remaining else {})


def _read(name: str, given: object) -> Any:
    if name not in FAULTS:
        raise InputError(f"The fault {name[:60]!r} is unknown: use any of {', '.join(FAULTS)}.")
    fault = FAULTS[name]
    if fault.fits(given):
        return given
    if fault.by_share and isinstance(given, dict) and given and all(map(_is_share, given.values())):
        values = [_value_of(fault, key) for key in given]
        # A little more than 1, which 0.1 + 0.2 + 0.7 may be.
        if None not in values and sum(given.values()) <= 1.000001:
            return Shares(tuple(zip(values, given.values(), strict=True)))
    ways = ", or an object of such values, each with its share of the requests, together at most 1"
    shown = json.dumps(given)
    raise InputError(f"The fault {name} can't be {shown:.80}: give {fault.values}{ways if fault.by_share else ''}.")


def _value_of(fault: Fault, key: str) -> Any:
    """The value that an object's key stands for: itself, or what it is as JSON; None when it does not fit."""
    if fault.fits(key):
        return key
    try:
        value = json.loads(key)
    except ValueError:
        return None
    return value if fault.fits(value) else None


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]  # the type says it can be compared


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
