"""Takes events in: whom each is for, whether it is new, and whether it is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import structlog

from workers.genesys.events import Event, parse_event
from workers.ledger import arrivals, events, recordings, submissions
from workers.ledger.arrivals import Addressee
from workers.ledger.events import Arrival
from workers.ledger.states import BEFORE_COMPLETED
from workers.model import State
from workers.pipeline.clock import NOW
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Why an event is refused.
OF_ANOTHER: Final = "its transcription id belongs to another recording"


class Verdict(StrEnum):
    """What became of a delivery with a valid token."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    UNMATCHED = "unmatched"
    REFUSED = "refused"
    MISMATCHED = "mismatched"


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event with a valid token, and the body that it was read from; what is not `event.known` is not kept."""

    callback_ref: str
    event: Event
    raw: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """The verdict, the recording that it is about, and whether it came before our submission's answer was recorded."""

    verdict: Verdict
    recording_id: int | None = None
    media_id: str | None = None
    early: bool = False


def read(callback_ref: str, raw: bytes) -> Delivery:
    """The event in a body; raises InputError for one that can't be used."""
    return Delivery(callback_ref, parse_event(raw, whole=False), raw)


def receive(resources: Resources, callback_ref: str, raw: bytes) -> Receipt:
    """Keeps an event whose token was valid, in one transaction: when this returns, it survives anything.

    Raises InputError for a malformed body, LedgerUnavailable when it could not be kept.
    """
    (receipt,) = receive_all(resources, [read(callback_ref, raw)])
    return receipt


def receive_all(resources: Resources, deliveries: Sequence[Delivery]) -> list[Receipt]:
    """Keeps some dozens of events in one transaction, all or none, and gives the receipt of each.

    Raises LedgerUnavailable when they could not be kept.
    """
    receipts = [Receipt(Verdict.IGNORED)] * len(deliveries)
    packed = {number: events.pack(one.raw) for number, one in enumerate(deliveries) if one.event.known}
    if not packed:
        return receipts
    with resources.ledger.write() as tx:
        known = arrivals.addressees(tx, [deliveries[number].callback_ref for number in packed])
        owners = arrivals.owners(tx, [deliveries[number].event.transcription_id for number in packed])
        # Held: one that is forgotten at this moment is seen as forgotten, or has its event removed with the others.
        states = arrivals.hold(tx, {*owners.values(), *(one.recording_id for one in known.values())})
        judged: dict[int, tuple[Receipt, Arrival]] = {}
        for number, body in packed.items():
            one = deliveries[number]
            addressee, owner = known.get(one.callback_ref), owners.get(one.event.transcription_id)
            receipts[number], state = _judge(one.event, addressee, owner, states)
            if state is not None:
                recording_id = addressee.recording_id if addressee else None
                detail = OF_ANOTHER if state == events.REFUSED else None
                arrival = _arrival(one.callback_ref, recording_id, one.event, body, state, detail)
                judged[number] = receipts[number], arrival
        kept = arrivals.store_all(tx, [arrival for _, arrival in judged.values()])
    for new, (number, (receipt, _)) in zip(kept, judged.items(), strict=True):
        if not new:
            receipts[number] = replace(receipt, verdict=Verdict.DUPLICATE, early=False)
    return receipts


def _judge(
    event: Event, addressee: Addressee | None, owner: int | None, states: Mapping[int, State]
) -> tuple[Receipt, str | None]:
    """What becomes of an event that is new, and in which state it is kept, None when it is not.

    `owner` is the recording (its id) that the API accepted under the event's transcription id, `states` those of the
    recordings (ids) that are held.
    """
    if owner is not None and states[owner] == State.FORGOTTEN:
        return Receipt(Verdict.IGNORED), None  # whoever it was delivered for: what was said is not kept anywhere
    if addressee is None:
        return Receipt(Verdict.UNMATCHED), events.UNMATCHED
    receipt = Receipt(Verdict.STORED, addressee.recording_id, addressee.media_id)
    if event.media_id is not None and event.media_id != addressee.media_id:
        return replace(receipt, verdict=Verdict.MISMATCHED), None
    state = states[addressee.recording_id]
    if state == State.FORGOTTEN:
        return Receipt(Verdict.IGNORED), None
    if owner not in (None, addressee.recording_id) and addressee.transcription_id != event.transcription_id:
        return replace(receipt, verdict=Verdict.REFUSED), events.REFUSED
    return replace(receipt, early=state in BEFORE_COMPLETED), events.NEW


def look_soon(resources: Resources, callback_ref: str) -> None:
    """Has the sweep poll for a result whose delivery could not be taken, such as one that was too large."""
    with resources.ledger.write() as tx:
        submission = submissions.by_callback_ref(tx, callback_ref)
        recording = recordings.lock(tx, submission.recording_id) if submission else None
        if recording is not None and recording.state == State.TRANSCRIBING:
            recordings.amend(tx, recording, due_at=NOW)


def _arrival(
    callback_ref: str, recording_id: int | None, event: Event, packed: bytes, state: str, detail: str | None = None
) -> Arrival:
    return Arrival(
        callback_ref=callback_ref,
        recording_id=recording_id,
        transcription_id=event.transcription_id,
        type=event.event_type,
        packed=packed,
        has_result=event.has_result,
        state=state,
        detail=detail,
    )
