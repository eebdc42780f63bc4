"""What a person may decide about a recording whose outcome is unknown or that is parked: each in the caller's write."""

from enum import StrEnum

from sqlalchemy import Connection

from workers.errors import InputError
from workers.ledger import recordings, submissions
from workers.model import Reason, Recording, State
from workers.pipeline import acceptance, unknown
from workers.pipeline.acceptance import Acceptance
from workers.pipeline.clock import NOW
from workers.resources import Resources


class LeftAlone(StrEnum):
    """Why nothing was done about a recording."""

    EVENT_WAITS = "event_waits"
    PERHAPS_ACCEPTED = "perhaps_accepted"
    NOT_REPEATABLE = "not_repeatable"
    NOT_UNDECIDED = "not_undecided"


def adopt(
    tx: Connection, resources: Resources, recording: Recording, *, transcription_id: str, by: str
) -> Reason | LeftAlone:
    """Takes a person's word that the API accepted the recording under this id, which is looked up at once then.

    Raises InputError when that can't be: the id is another recording's, or failed, or nothing was ever sent.
    """
    owner = submissions.owner(tx, transcription_id)
    if owner is not None and owner != recording.id:
        other = recordings.get(tx, owner)
        whose = f"recording {other.ref} (media id {other.media_id})" if other else "another recording"
        raise InputError(f"Transcription {transcription_id} belongs to {whose}: adopt the id of this one's.")
    sent = submissions.of_recording(tx, recording.id)
    if not sent:
        raise InputError(f"Nothing was ever submitted for {recording.media_id}: decide with --resubmit or --drop.")
    if any(one.transcription_id == transcription_id and one.failed_at is not None for one in sent):
        raise InputError(f"Transcription {transcription_id} failed, the API says: decide with --resubmit or --drop.")
    if owner is None:
        fact = Acceptance(sent[-1].callback_ref, transcription_id)
        acceptance.record(tx, resources, fact, by=by, reason=Reason.ADOPTED)
        recording = recordings.get(tx, recording.id) or recording
    if recording.state == State.TRANSCRIBING:
        recordings.amend(tx, recording, due_at=NOW)
    else:
        recordings.move(
            tx,
            recording,
            State.TRANSCRIBING,
            by=by,
            reason=Reason.ADOPTED,
            due_at=NOW,
            new_epoch=True,
            transcription_id=transcription_id,
            polls=0,
        )
    return Reason.ADOPTED


def resubmit(
    tx: Connection, resources: Resources, recording: Recording, *, pay_again: bool, by: str
) -> Reason | LeftAlone:
    """Has the recording submitted again: the same bytes while their outcome is unknown, else anew with a new ref.

    What was accepted and what can't be repeated is submitted anew only if it is to be paid for again. Raises
    NotRepeatable in the latter case when it is not.
    """
    if not pay_again and submissions.accepted_among(tx, [recording.id]):
        return LeftAlone.PERHAPS_ACCEPTED
    latest = submissions.latest(tx, recording.id)
    if latest is not None and latest.outcome in (submissions.UNKNOWN, submissions.OPEN):
        try:
            unknown.repeat(tx, resources.settings, recording, latest, by=by)
        except unknown.NotRepeatable:
            if not pay_again:
                raise
        else:
            repeated = recordings.get(tx, recording.id)
            assert repeated is not None  # noqa: S101 rows are never deleted
            # Whatever it was accepted as before, the one that is wanted now is still to come.
            recordings.amend(tx, repeated, transcription_id=None, polls=0)
            return Reason.REPEATED
    recordings.move(
        tx,
        recording,
        State.VALIDATED,
        by=by,
        reason=Reason.RESUBMITTED,
        due_at=NOW,
        new_epoch=True,
        repeats=None,
        transcription_id=None,
        polls=0,
    )
    return Reason.RESUBMITTED


def drop(tx: Connection, resources: Resources, recording: Recording, *, by: str) -> Reason | LeftAlone:  # noqa: ARG001
    """Gives the recording up: it fails rather than being cancelled, for it may have been paid for."""
    reason, detail = Reason.DROPPED, "A person gave it up; an event that comes late completes it all the same."
    if recording.state == State.UNKNOWN:
        recording = recordings.move(tx, recording, State.PARKED, by=by, reason=reason) or recording
    recordings.move(tx, recording, State.FAILED, by=by, reason=reason, detail=detail, new_epoch=True)
    return reason
