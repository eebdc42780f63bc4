"""The plan for a list: what was found in it, what a sample says of its audio, and the pace at which it would go."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workers.model import State
from workers.pipeline.estimates import Estimate
from workers.pipeline.hours import Hours
from workers.pipeline.pace import Pace
from workers.pipeline.plan import Found
from workers.pipeline.probing import Probed


@dataclass(frozen=True, slots=True)
class Plan:
    """What sending a list would come to at the moment `made_at` (Unix seconds).

    `has_ledger`: earlier recordings could be looked up. `probed` is None when no sample was asked for, `price` (a
    minute of audio) when nobody named one. `longest` is how many seconds a recording has at most, `hours` those outside
    of which nothing is submitted.
    """

    backfill: str
    found: Found
    pace: Pace
    probed: Probed | None
    longest: float
    price: float | None
    has_ledger: bool
    made_at: float
    hours: Hours | None = None

    @property
    def usable_share(self) -> float:
        """Which share of the new recordings passes validation: all of them, as long as nobody looked."""
        rejected = self.probed.rejected_share(self.found.new) if self.probed else None
        return 1.0 if rejected is None else 1.0 - rejected.value

    @property
    def audio_hours(self) -> Estimate | None:
        """Of everything that would be transcribed; None when nobody looked."""
        each = self.probed.seconds_each(self.found.new, self.longest) if self.probed else None
        return None if each is None else each.times(self.found.new / 3600)

    @property
    def audio_hours_at_most(self) -> float:
        """If each of them were as long as the API transcribes."""
        return self.found.new * self.longest / 3600

    @property
    def cost(self) -> Estimate | None:
        """By the second, in the currency of the price."""
        hours = self.audio_hours
        return None if hours is None or self.price is None else hours.times(60 * self.price)

    @property
    def seconds(self) -> float:
        """Until the last new recording is submitted, if the list were sent now."""
        working = self.pace.seconds(self.found.new, self.usable_share)
        if self.hours is None or not self.found.new:
            return working
        return self.hours.after_open(self.made_at, working) - self.made_at

    @property
    def submitted_at(self) -> float | None:
        """When that would be (Unix seconds), None while something holds everything."""
        return None if self.pace.obstacles else self.made_at + self.seconds

    def as_json(self) -> dict[str, Any]:
        """The stable form of `retroscribe plan --json`."""
        found, pace, at = self.found, self.pace, self.submitted_at
        hours, cost = self.audio_hours, self.cost
        return {
            "backfill": self.backfill,
            "lane": str(pace.lane),
            "has_ledger": self.has_ledger,
            "entries": found.entries,
            "new": found.new,
            "begin_anew": found.begin_anew,
            "duplicates": found.duplicates_in_list + found.duplicates.total(),
            "duplicates_in_list": found.duplicates_in_list,
            "duplicates_by_state": {str(state): found.duplicates[state] for state in State},
            "repeated": found.repeated.total(),
            "repeated_by_state": {str(state): found.repeated[state] for state in State},
            "unusable": found.unusable.number,
            "unusable_reasons": [
                {"reason": kind.reason, "count": kind.number, "lines": kind.lines} for kind in found.unusable.kinds()
            ],
            "probe": None if self.probed is None else self._probe(self.probed),
            "audio_hours": None if hours is None else hours.as_json(),
            "audio_hours_at_most": self.audio_hours_at_most,
            "price_per_minute": self.price,
            "cost": None if cost is None else cost.as_json(),
            "cost_at_most": None if self.price is None else self.audio_hours_at_most * 60 * self.price,
            "calls": self.calls(),
            "limit_per_second": pace.limit,
            "submit_rate_per_second": pace.submit_rate,
            "rate_is_measured": pace.measured,
            "gate_seconds": pace.gate_seconds,
            "waiting_before": pace.own,
            "waiting_beside": [{"backfill": name, "recordings": number} for name, number in pace.others.items()],
            "obstacles": list(pace.obstacles),
            "only_between": None if self.hours is None else str(self.hours),
            "seconds": self.seconds,
            "submitted_by": None if at is None else datetime.fromtimestamp(at, UTC).isoformat(),
        }

    def calls(self) -> dict[str, int]:
        """How many API calls of each class, in whole numbers."""
        calls = self.pace.calls(self.found.new, self.usable_share)
        return {
            "media": round(calls.media),
            "submit": round(calls.submit),
            "status": round(calls.status),
            "token": math.ceil(calls.token),
        }

    def _probe(self, probed: Probed) -> dict[str, Any]:
        share = probed.rejected_share(self.found.new)
        return {
            "wanted": probed.wanted,
            "answered": probed.answered,
            "usable": len(probed.usable),
            "rejected_reasons": {str(reason): number for reason, number in probed.rejected.items()},
            "rejected_share": None if share is None else share.as_json(),
            "problem": probed.problem,
            "interrupted": probed.interrupted,
        }
