"""What becomes of a submission when nobody knows whether the API accepted it: proof, policy, or a person settles it."""

import structlog
from sqlalchemy import Connection

from config.settings import Settings
from workers.genesys.schemas import request_digest
from workers.ledger import events, recordings, submissions
from workers.ledger.submissions import Submission
from workers.ledger.tables import CANCELLED
from workers.model import Reason, Recording, State, TranscriptionRequest
from workers.pipeline.callbacks import callback_uri
from workers.pipeline.clock import NOW, after
from workers.pipeline.postpone import OUT_SECONDS
from workers.resources import Resources

log = structlog.get_logger(__name__)


class NotRepeatable(Exception):
    """The request can't be sent again byte for byte; the text says why and what to do."""


def mark(
    tx: Connection, recording: Recording, reason: Reason, detail: str, *, by: str, due_at: float = NOW
) -> Recording | None:
    """Says that the outcome of the recording's submission is unknown; None when the recording has moved on."""
    return recordings.move(
        tx, recording, State.UNKNOWN, by=by, reason=reason, detail=detail, due_at=due_at, new_epoch=True
    )


def lease_over(tx: Connection, resources: Resources, recording: Recording, *, by: str) -> None:
    """The worker that was to submit has not said what became of it: it may have been accepted."""
    detail = "The worker did not say what became of the submission."
    due_at = after(resources.settings.unknown_after_seconds)
    submission = submissions.latest(tx, recording.id)
    if mark(tx, recording, Reason.LEASE_EXPIRED, detail, by=by, due_at=due_at) and submission:
        submissions.settle(tx, submission.id, submissions.UNKNOWN)


def decide(tx: Connection, resources: Resources, recording: Recording, *, by: str) -> None:
    """Parks or repeats a recording whose outcome has been unknown for too long, as the policy says.

    An event that waits in the inbox is proof, so it goes first. What was repeated once is parked, and so is what a
    cancelled backfill has.
    """
    if events.is_waiting(tx, recording.id):
        recordings.amend(tx, recording, due_at=after(OUT_SECONDS))
        return
    submission = submissions.latest(tx, recording.id)
    detail = recording.detail
    repeats = resources.settings.unknown_policy == "resubmit" and recording.reason != Reason.REPEAT_IMPOSSIBLE
    if repeats and recording.backfill_state != CANCELLED and submission is not None and submission.sends == 1:
        try:
            repeat(tx, resources.settings, recording, submission, by=by)
        except NotRepeatable as problem:
            detail = str(problem)
        else:
            return
    waited = f"No callback proved the submission within {resources.settings.unknown_after_seconds:g} s. {detail or ''}"
    recordings.move(
        tx,
        recording,
        State.PARKED,
        by=by,
        reason=Reason.OUTCOME_UNKNOWN,
        detail=waited.strip(),
        new_epoch=True,
    )
    log.warning("recording_parked", recording_id=recording.id, reason=str(Reason.OUTCOME_UNKNOWN))


def repeat(tx: Connection, settings: Settings, recording: Recording, submission: Submission, *, by: str) -> None:
    """Orders the same request to be sent again with the same callback ref and idempotency key.

    A server that minds either charges once. Raises NotRepeatable when the settings have changed since.
    """
    same_callback_uri(settings, recording.request, submission)
    detail = f"Submission {submission.number} is repeated with the same callback ref."
    recordings.move(
        tx,
        recording,
        State.VALIDATED,
        by=by,
        reason=Reason.REPEATED,
        detail=detail,
        due_at=NOW,
        new_epoch=True,
        repeats=submission.id,
    )
    log.warning("submission_repeated", recording_id=recording.id, submission_number=submission.number)


def not_repeated(tx: Connection, recording: Recording, detail: str, *, by: str) -> None:
    """Takes a recording back whose request turned out not to be repeatable; nothing was sent."""
    submitting = recordings.get(tx, recording.id)
    if submitting is not None:
        mark(tx, submitting, Reason.REPEAT_IMPOSSIBLE, detail, by=by)


def free(tx: Connection, submission: Submission, detail: str, *, by: str) -> None:
    """Acts on late proof that a submission was not accepted: its recording waits to be submitted again.

    Only while that is the recording's latest submission and nothing else has settled what became of it.
    """
    recording = recordings.lock(tx, submission.recording_id)
    latest = submissions.latest(tx, submission.recording_id)
    if recording is None or latest is None or latest.id != submission.id:
        return
    waits = recording.state == State.UNKNOWN or (
        recording.state == State.PARKED and recording.reason == Reason.OUTCOME_UNKNOWN
    )
    if waits and submission.outcome in (submissions.NOT_SENT, submissions.REFUSED):
        recordings.move(
            tx, recording, State.VALIDATED, by=by, reason=Reason.NOT_SENT, detail=detail, due_at=NOW, new_epoch=True
        )


def same_callback_uri(settings: Settings, request: TranscriptionRequest, submission: Submission) -> str | None:
    """The callback URI with which the request has the bytes that were sent; None when it had none.

    Raises NotRepeatable when no secret that is valid now makes it.
    """
    base_url, ref = settings.callback_base_url, submission.callback_ref
    uris = [callback_uri(base_url, ref, [secret]) for secret in settings.signing_secrets] if base_url else [None]
    for uri in uris:
        if request_digest(request, uri) == submission.request_digest:
            return uri
    raise NotRepeatable(
        "It can't be repeated byte for byte: RETROSCRIBE_PUBLIC_URL or RETROSCRIBE_WEBHOOK_SECRETS is not what it was; "
        "add the old secret to the end of the list, or decide with `retroscribe resolve`."
    )
