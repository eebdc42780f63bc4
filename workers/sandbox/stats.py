"""What the sandbox has seen since its start or the last reset."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Stats:
    """Counters, and the log of what was accepted; times are Unix seconds."""

    accepted: Counter[str] = field(default_factory=Counter)
    idempotency_keys: Counter[str] = field(default_factory=Counter)
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
        self.accepted[media_id] += 1
        if idempotency_key is not None:
            self.idempotency_keys[idempotency_key] += 1
        self.last_submit_at = time.time()
        self.first_submit_at = self.first_submit_at or self.last_submit_at

    def reset(self) -> None:
        """Starts over: what was counted is forgotten."""
        fresh = Stats()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def as_dict(self) -> dict[str, Any]:
        """The body of GET /_sandbox/stats."""
        counters = {name: getattr(self, name) for name in self.__slots__}
        return counters | {"rejected_429": self.rejected_429_by_class.total()}
