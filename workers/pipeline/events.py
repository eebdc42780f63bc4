"""What an event says and what follows: taken in by the receiver, applied by the index task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import structlog
from sqlalchemy import Connection

from workers.genesys.events import Event, parse_event
from workers.ledger import arrivals, erasure, events, recordings, submissions
from workers.ledger.arrivals import Addressee
from workers.ledger.events import Arrival
from workers.ledger.states import BEFORE_COMPLETED
from workers.ledger.submissions import Submission
from workers.model import Reason, Recording, State
from workers.pipeline import acceptance
from workers.pipeline.acceptance import Acceptance
from workers.pipeline.clock import NOW, after
from workers.pipeline.finish import audit
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: A completed recording whose index message got lost is looked at by the sweep after this long.
UNINDEXED_SECONDS: Final = 60.0
#: Recordings whose events are applied in one transaction: some milliseconds each.
TOGETHER: Final = 10
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


def apply_waiting(resources: Resources, recording_id: int, *, by: str) -> Recording | None:
    """Applies the recording's waiting events and gives the recording as it is then.

    Those with a result come first. One that completed without a result comes after a failure: it has to be looked up.
    """
    with resources.ledger.write() as tx:
        recording = recordings.lock(tx, recording_id)
        if recording is None:
            return None
        recording, failed = _apply_all(tx, resources, recording, by=by)
    if failed:
        _tell_failed(recording)
    return recording


def apply_others(resources: Resources, most: int, *, by: str) -> list[Recording]:
    """Applies the waiting events of up to `most` recordings, oldest first; gives those that are completed thereby.

    Each is given to one caller only, however many look at once, and is the caller's to index.
    """
    completed: list[Recording] = []
    looked = 0
    while looked < most:
        with resources.ledger.read() as tx:
            if not events.is_any_waiting(tx):
                break
        failed: list[Recording] = []
        with resources.ledger.write() as tx:
            found = events.lock_waiting(tx, min(TOGETHER, most - looked))
            for before in found:
                recording, has_failed = _apply_all(tx, resources, before, by=by)
                if has_failed:
                    failed.append(recording)
                elif recording.state == State.COMPLETED and before.state != State.COMPLETED:
                    completed.append(recording)
        for recording in failed:
            _tell_failed(recording)
        looked += len(found)
        if len(found) < TOGETHER:
            break
    return completed


def _apply_all(tx: Connection, resources: Resources, recording: Recording, *, by: str) -> tuple[Recording, bool]:
    """Applies a locked recording's events; gives it as it is then, and whether one of them failed it."""
    if recording.state == State.FORGOTTEN:
        erasure.erase_text(tx, recording.id)
        return recording, False
    failed = False
    waiting = [(stored, parse_event(stored.payload)) for stored in events.waiting(tx, recording.id)]
    waiting.sort(key=lambda pair: (pair[1].transcript is None, pair[1].status == "completed"))
    for stored, event in waiting:
        state, why = _apply(tx, resources, recording, stored, event, by=by)
        events.mark(tx, stored.id, state, why)
        recording = _fresh(tx, recording)
        failed = failed or (state == events.APPLIED and event.status == "failed")
    return recording, failed and recording.state == State.FAILED


def _tell_failed(recording: Recording) -> None:
    audit(recording)
    log.info("transcription_failed", recording_id=recording.id, transcription_id=recording.transcription_id)


def _apply(
    tx: Connection, resources: Resources, recording: Recording, stored: events.StoredEvent, event: Event, *, by: str
) -> tuple[str, str | None]:
    """Applies one event to a locked recording; gives the event's new state and why."""
    fact = Acceptance(stored.callback_ref, event.transcription_id)
    if recording.state not in BEFORE_COMPLETED | {State.TRANSCRIBING}:
        if event.status == "completed":  # whatever has come of it, another one was paid for
            acceptance.record(tx, resources, fact, by=by)
        return events.IGNORED, f"the recording was {recording.state} already"
    owner = submissions.owner(tx, event.transcription_id)
    if owner not in (None, recording.id) and recording.transcription_id != event.transcription_id:
        return events.REFUSED, OF_ANOTHER
    if event.status == "failed":
        return _failed(tx, resources, recording, stored, event, by=by)
    acceptance.record(tx, resources, fact, by=by, reason=Reason.WEBHOOK)
    recording = _fresh(tx, recording)
    if event.transcript is None and recording.transcription_id != event.transcription_id:
        return events.IGNORED, "it is not the recording's present transcription, and has no result"
    if recording.state != State.TRANSCRIBING:
        recording = _proved(tx, recording, event, by=by)
    if event.transcript is None:
        recordings.amend(tx, recording, due_at=NOW)
        return events.APPLIED, "it has no result, so that is looked up"
    events.keep_transcript(tx, recording.id, event.transcript, stored.packed)
    recordings.move(
        tx,
        recording,
        State.COMPLETED,
        by=by,
        reason=None if event.transcript.segments else Reason.EMPTY,
        due_at=after(UNINDEXED_SECONDS),
        transcription_id=event.transcription_id,
    )
    return events.APPLIED, None


def _failed(
    tx: Connection, resources: Resources, recording: Recording, stored: events.StoredEvent, event: Event, *, by: str
) -> tuple[str, str | None]:
    """Fails the recording if the transcription that failed is its present one; records the fact in any case."""
    submission = submissions.by_callback_ref(tx, stored.callback_ref)
    assert submission is not None  # noqa: S101 the event was matched by it
    if _is_current(tx, recording, submission, event):
        acceptance.record(
            tx, resources, Acceptance(stored.callback_ref, event.transcription_id), by=by, reason=Reason.WEBHOOK
        )
        present = _fresh(tx, recording)
        if present.state != State.TRANSCRIBING:
            present = _proved(tx, present, event, by=by)
        detail = event.message or "The API says that the transcription failed."
        recordings.move(tx, present, State.FAILED, by=by, reason=Reason.TRANSCRIPTION_FAILED, detail=detail)
        verdict: tuple[str, str | None] = (events.APPLIED, None)
    else:
        submissions.settle(tx, submission.id, submissions.ACCEPTED, transcription_id=event.transcription_id)
        verdict = (events.IGNORED, "another transcription of the recording is the present one")
    submissions.note_failed(tx, submissions.get(tx, submission.id), event.transcription_id)
    return verdict


def _is_current(tx: Connection, recording: Recording, submission: Submission, event: Event) -> bool:
    if recording.transcription_id is not None:
        return recording.transcription_id == event.transcription_id and recording.state != State.FAILED
    latest = submissions.latest(tx, recording.id)
    return latest is not None and latest.id == submission.id and submission.failed_at is None


def _proved(tx: Connection, recording: Recording, event: Event, *, by: str) -> Recording:
    """From wherever the recording stands to `transcribing`: its event proves that it was accepted."""
    moved = recordings.move(
        tx,
        recording,
        State.TRANSCRIBING,
        by=by,
        reason=Reason.WEBHOOK,
        due_at=after(UNINDEXED_SECONDS),
        new_epoch=True,
        transcription_id=event.transcription_id,
        polls=0,
    )
    assert moved is not None  # noqa: S101 the row is locked
    return moved


def _fresh(tx: Connection, recording: Recording) -> Recording:
    found = recordings.get(tx, recording.id)
    assert found is not None  # noqa: S101 rows are never deleted
    return found


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
