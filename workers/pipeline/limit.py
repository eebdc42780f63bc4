"""Limits set at run time: kept in the ledger, and put in force in Redis, which may be wiped."""

from typing import Any

from workers.errors import InputError, LimiterUnavailable
from workers.ledger import controls
from workers.limits.limiter import LimiterState
from workers.model import CallClass
from workers.resources import Resources


def set_limit(resources: Resources, call_class: CallClass, per_second: float | None) -> bool:
    """Puts a limit in force on the whole fleet at once, or with None the published one again; safe to repeat.

    False when Redis does not answer: the ledger has it then, and the pump puts it in force within a second of Redis'
    being back. Raises InputError when the class draws on the limit of another.
    """
    bucket = resources.limiter.bucket(call_class)
    if bucket != call_class:
        raise InputError(
            f"{call_class} calls draw on the limit of {bucket} calls (RETROSCRIBE_LIMIT_BUCKETS=shared): "
            f"change that one with `retroscribe limit {bucket} RATE`."
        )
    with resources.ledger.write() as tx:
        controls.set_limit(tx, resources.client_key, call_class, per_second)
    try:
        resources.limiter.set_limit(call_class, per_second)
    except LimiterUnavailable:
        return False
    return True


def put_in_force(resources: Resources) -> None:
    """Makes the limiter know what the ledger has; raises LimiterUnavailable when Redis is down."""
    with resources.ledger.read() as tx:
        wanted = controls.limits(tx, resources.client_key)
    for call_class in CallClass:
        if resources.limiter.bucket(call_class) == call_class:
            resources.limiter.set_limit(call_class, wanted.get(call_class))


def limit_json(one: LimiterState) -> dict[str, Any]:
    """The stable form of a limit and how it stands."""
    return {
        "configured_per_second": one.configured,
        "learned_per_second": one.learned,
        "others_per_second": one.others,
        "rate_per_second": one.rate,
        "granted_per_second": one.granted_per_second,
        "gate_seconds": one.gate_seconds,
        "gate_reason": one.gate_reason,
        "rejected_last_minute": one.rejected_last_minute,
    }
