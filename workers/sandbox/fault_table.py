"""Every fault that the sandbox can be told to have: its values, and what each of them does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: The values that mean that all is well.
OFF = ("normal", "ok")
LATE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: which values fit, what they are in words, and what it does.

    Where `by_share`, an object value -> share gives each value to a share of the requests.
    """

    fits: Callable[[Any], bool]
    values: str
    does: str
    by_share: bool = True


def _error_status(value: object) -> bool:
    return type(value) is int and 400 <= value <= 599


def _number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _status(does: str) -> Fault:
    return Fault(_error_status, "an HTTP status from 400 to 599", does)


def _choice(does: str, meanings: Mapping[str, str], *, by_share: bool = True) -> Fault:
    *most, last = (f'"{value}"' for value in meanings)
    told = "; ".join(f"{value}: {meaning}" for value, meaning in meanings.items() if meaning)
    return Fault(lambda value: value in tuple(meanings), f"{', '.join(most)} or {last}", f"{does}. {told}", by_share)


FAULTS: dict[str, Fault] = {
    "submit_status": _status(
        "answered to a submission, which is not accepted; 401, 403 (a missing scope) and 429 as the API would"
    ),
    "submit_then": _choice(
        "what becomes of a submission that is not accepted",
        {"ok": "", "cut": "the connection is closed", "hang": "it is never answered, until the caller gives up"},
    ),
    "accept_then": _choice(
        "what becomes of the answer to a submission that was accepted, and is charged and processed",
        {
            "ok": "",
            "502": "the answer is 502",
            "cut": "the connection is closed",
            "hang": "it is never answered, until the caller gives up",
            "no_id": "the answer is 202 without a transcription id",
        },
    ),
    "slow_seconds": Fault(
        _number(0, 600), "seconds from 0 to 600", "how long the answer to a submission takes, not its acceptance"
    ),
    "media_status": _status("answered to a media look-up; 401, 403 (a missing scope) and 429 as the API would"),
    "status_status": _status("answered to a status look-up; 401 and 429 as the API would"),
    "token_status": _status("answered to a request for a token; 429 as the API would"),
    "revoke_tokens": Fault(
        lambda value: value is True,
        "true",
        "true revokes every token issued so far, once and at once; a share of the submissions does so again and again, "
        "each answered 401",
    ),
    "retry_after": Fault(
        lambda value: value in ("normal", "missing") or _number(1, 3600)(value),
        '"normal", "missing", or seconds from 1 to 3600',
        "the Retry-After header of every 429, those of the rate limit included",
    ),
    "status_route": _choice(
        "whether the status route is there", {"normal": "", "missing": "404", "method_not_allowed": "405"}
    ),
    "webhooks": _choice(
        "how the event of a submission is delivered, decided when that is accepted",
        {
            "normal": "",
            "lost": "not at all",
            "doubled": "twice, at the same time",
            "early": "before the submission is answered",
            "late": "late_seconds after the transcription is finished",
            "out_of_order": "after the event of a transcription that finished later (at most late_seconds after its "
            "own), and followed by an older copy of itself, still without a result",
            "no_result": "without its result, which only the status route has",
            "contradicted": "between two events of the same transcription that say it failed",
            "wrong_media": "after one with the id and the words of another recording",
            "forged": "after one with made-up words, to the URI with its last six characters changed",
        },
    ),
    "late_seconds": Fault(
        _number(0, 3600), "seconds from 0 to 3600", f"for late and out_of_order; default {LATE_SECONDS}", by_share=False
    ),
    "idempotency": _choice(
        "what a repeated Idempotency-Key does",
        {
            "normal": "",
            "deduplicated": "it is answered with the first one's transcription id and not charged, or with 409 where "
            "the media id is another",
        },
        by_share=False,
    ),
    "count": Fault(
        lambda value: type(value) is int and value >= 1,
        "a whole number of requests, 1 or more",
        "how often each of the other faults happens before it is over; default: always",
        by_share=False,
    ),
}
#: What only says how faults and answers are, and so neither happens nor is used up.
PARAMETERS = ("late_seconds", "idempotency", "count")


def described() -> str:
    """The table for people, a paragraph a fault."""
    return "\n".join(f"  {name} ({fault.values}): {fault.does}." for name, fault in FAULTS.items())
