"""What the sandbox has seen since its start or the last reset."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ENTRIES = ("accepted", "idempotency_keys")


@dataclass(slots=True)
class Stats:
    """Counters, and the log of what was accepted; times are Unix seconds.

    `accepted_twice` and `idempotency_keys_twice` are how many ids and keys were accepted more than once, `deduplicated`
    how many repeats were answered without being accepted; `faults_used` counts each fault as name=value.
    """

    accepted: Counter[str] = field(default_factory=Counter)
    idempotency_keys: Counter[str] = field(default_factory=Counter)
    accepted_total: int = 0
    accepted_twice: int = 0
    idempotency_keys_twice: int = 0
    deduplicated: int = 0
    faults_used: Counter[str] = field(default_factory=Counter)
    submits: int = 0
    rejected_429_by_class: Counter[str] = field(default_factory=Counter)
    tokens_issued: int = 0
    media_lookups: int = 0
    status_lookups: int = 0
    webhooks_delivered: int = 0
    webhooks_failed: int = 0
    webhook_attempts: int = 0
    first_submit_at: float | None = None
    last_submit_at: float | None = None

    def count_accepted(self, media_id: str, idempotency_key: str | None) -> None:
        """Counts a submission that is accepted, and so paid for."""
        self.accepted_total += 1
        self.accepted[media_id] += 1
        self.accepted_twice += self.accepted[media_id] == 2
        if idempotency_key is not None:
            self.idempotency_keys[idempotency_key] += 1
            self.idempotency_keys_twice += self.idempotency_keys[idempotency_key] == 2
        self.last_submit_at = time.time()
        self.first_submit_at = self.first_submit_at or self.last_submit_at

    def reset(self) -> None:
        """Starts over: what was counted is forgotten."""
        fresh = Stats()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def as_dict(self, *, brief: bool) -> dict[str, Any]:
        """The body of GET /_sandbox/stats; `brief` leaves out what has an entry a recording."""
        left_out = ENTRIES if brief else ()
        counters = {name: getattr(self, name) for name in self.__slots__ if name not in left_out}
        return counters | {"rejected_429": self.rejected_429_by_class.total()}
