"""The faults that can be switched on while the sandbox runs."""

from collections.abc import Callable
from typing import Any

Check = Callable[[Any], bool]


class UnknownFault(ValueError):
    """The body of PUT /_sandbox/faults can't be used; its text is a sentence."""


def _error_status(value: object) -> bool:
    return type(value) is int and 400 <= value <= 599


def _one_of(*choices: str) -> Check:
    return lambda value: value in choices


FAULTS: dict[str, tuple[Check, str]] = {
    "submit_status": (_error_status, "an HTTP status from 400 to 599, answered instead of accepting"),
    "media_status": (_error_status, "an HTTP status from 400 to 599"),
    "token_status": (_error_status, "an HTTP status from 400 to 599"),
    "revoke_tokens": (lambda value: value is True, "true"),
    "webhooks": (_one_of("normal", "lost", "doubled", "early"), "normal, lost, doubled or early"),
    "accept_then": (_one_of("ok", "502", "cut"), "ok, 502 or cut"),
    "slow_seconds": (lambda value: type(value) in (int, float) and 0 <= value <= 600, "seconds from 0 to 600"),
    "status_route": (_one_of("normal", "missing"), "normal or missing"),
    "count": (lambda value: type(value) is int and value >= 1, "a whole number of requests, 1 or more"),
}


class Faults:
    """Which faults are on, and for how many more requests each."""

    def __init__(self) -> None:
        self._active: dict[str, Any] = {}
        self._remaining: dict[str, int] = {}

    def replace(self, wanted: object) -> bool:
        """Switches on exactly `wanted`, all others off; true when existing tokens are to be revoked as well.

        `count` limits each of the others to that many requests. Raises UnknownFault, and then changes nothing.
        """
        if not isinstance(wanted, dict):
            raise UnknownFault(f"The faults must be a JSON object with any of {', '.join(FAULTS)}.")
        for name, value in wanted.items():
            if name not in FAULTS:
                raise UnknownFault(f"The fault {name!r} is unknown: use any of {', '.join(FAULTS)}.")
            fits, meaning = FAULTS[name]
            if not fits(value):
                raise UnknownFault(f"The fault {name} can't be {value!r}: give {meaning}.")
        active = dict(wanted)
        revoke = bool(active.pop("revoke_tokens", False))
        count = active.pop("count", None)
        self._active = active
        self._remaining = {} if count is None else dict.fromkeys(active, count)
        return revoke

    def take(self, name: str) -> Any:
        """The fault's value for one request, None when it is off; uses up one of its `count`."""
        value = self._active.get(name)
        if name in self._remaining:
            self._remaining[name] -= 1
            if self._remaining[name] == 0:
                del self._remaining[name], self._active[name]
        return value

    def shown(self) -> dict[str, Any]:
        """What is on, in the form it is put in; `count` is what is left of it."""
        return self._active | ({"count": max(self._remaining.values())} if self._remaining else {})
