"""Second step: submits exactly once. The intent is committed before the socket opens, facts are always recorded."""

import time
import uuid
from contextlib import suppress
from typing import Final

import structlog
from sqlalchemy import Connection

from workers.errors import (
    ApiError,
    Halted,
    LedgerUnavailable,
    OutcomeUnknown,
    RequestRefused,
    Retryable,
    RetryableApiError,
)
from workers.genesys.client import Accepted
from workers.genesys.tokens import AccessToken
from workers.ledger import backfills, recordings, submissions
from workers.ledger.states import BEFORE_COMPLETED
from workers.limits.guard import NotCalled
from workers.limits.limiter import Permit
from workers.model import CallClass, Reason, Recording, State
from workers.pipeline import api
from workers.pipeline.callbacks import callback_uri
from workers.pipeline.clock import after
from workers.pipeline.finish import audit
from workers.pipeline.postpone import OUT_SECONDS, GivenBack, halted, postpone
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Nothing is sent when the intent is older than this by then: its lease could run out while the call is on its way.
INTENT_IS_FRESH_SECONDS: Final = 10.0


class _NotOurs(NotCalled):
    """The recording is not ours to submit."""


def submit(resources: Resources, recording_id: int, epoch: int, *, by: str) -> bool:
    """Submits a validated recording; True when it was accepted and its chain goes on.

    A message whose epoch is not the recording's does nothing. Raises Retryable with its delay when the API surely did
    not accept; an unknown outcome is recorded, never repeated. Safe to repeat.
    """
    with resources.ledger.read() as tx:
        recording = recordings.get(tx, recording_id)
    if recording is None or recording.epoch != epoch or recording.state != State.VALIDATED:
        return False
    attempt = _Attempt(resources, recording, by)
    try:
        api.call(resources, CallClass.SUBMIT, attempt, lane=recording.lane, recording_id=recording.id)
    except (_NotOurs, OutcomeUnknown, RequestRefused):
        return False
    except Halted as error:
        halted(resources, attempt.recording, error, by=by)
        return False
    except Retryable as error:
        with suppress(GivenBack):
            postpone(resources, attempt.recording, error, by=by)
        return False
    if attempt.probes:
        api.lift_halt(resources, CallClass.SUBMIT)
    return True


class _Attempt:
    """One POST under one permit: intent, socket, and what the answer says; called again after a 401."""

    def __init__(self, resources: Resources, recording: Recording, by: str) -> None:
        self._resources = resources
        self._by = by
        #: As this worker last saw it: a POST that was surely not accepted leaves it `validated` with a new epoch.
        self.recording = recording
        self.probes = False

    def __call__(self, token: AccessToken, _permit: Permit) -> Accepted:
        intended = time.monotonic()
        submission_id, callback_ref = self._intend()
        try:
            accepted = self._post(token, callback_ref, intended)
        except (RetryableApiError, Halted) as error:
            self._not_accepted(submission_id, error)
            raise
        except RequestRefused as error:
            self._refused(submission_id, error)
            raise
        except OutcomeUnknown as error:
            self._unknown(submission_id, error)
            raise
        self._record(submission_id, accepted, lease_ends=intended + self._resources.settings.submit_lease_seconds)
        return accepted

    def _post(self, token: AccessToken, callback_ref: str, intended: float) -> Accepted:
        settings = self._resources.settings
        base_url = settings.callback_base_url
        return self._resources.client.submit(
            token,
            self.recording.request,
            callback_uri=callback_uri(base_url, callback_ref, settings.signing_secrets) if base_url else None,
            idempotency_key=callback_ref,
            send_before=intended + INTENT_IS_FRESH_SECONDS,
        )

    def _record(self, submission_id: int, accepted: Accepted, *, lease_ends: float) -> None:
        """Writes down what is paid for, trying for as long as the lease lasts when the ledger can't be written."""
        while True:
            try:
                return record_acceptance(self._resources, submission_id, accepted, by=self._by)
            except LedgerUnavailable:
                if time.monotonic() > lease_ends:
                    ids = {"submission_id": submission_id, "transcription_id": accepted.transcription_id}
                    log.critical("acceptance_not_recorded", recording_id=self.recording.id, **ids)
                    raise
                self._resources.stopping.wait(1)

    def _intend(self) -> tuple[int, str]:
        resources, callback_ref = self._resources, uuid.uuid4().hex
        with resources.ledger.write() as tx:
            leave = api.leave(tx, resources, self.recording)
            if leave == api.Leave.HALTED or not backfills.is_running(tx, self.recording.backfill_id):
                raise _NotOurs
            self.probes = leave == api.Leave.PROBE
            moved = recordings.move(
                tx,
                self.recording,
                State.SUBMITTING,
                by=self._by,
                due_at=after(resources.settings.submit_lease_seconds),
                new_epoch=True,
                attempts=self.recording.attempts,
            )
            if moved is None:
                raise _NotOurs
            submission_id = submissions.open_next(tx, moved.id, callback_ref=callback_ref, epoch=moved.epoch)
        self.recording = moved
        return submission_id, callback_ref

    def _not_accepted(self, submission_id: int, error: ApiError) -> None:
        with self._resources.ledger.write() as tx:
            _settle(tx, submission_id, submissions.NOT_SENT, error)
            moved = recordings.move(
                tx,
                self.recording,
                State.VALIDATED,
                by=self._by,
                reason=Reason.NOT_SENT,
                detail=str(error),
                due_at=after(OUT_SECONDS),
                attempts=self.recording.attempts,
            )
        self.recording = moved or self.recording

    def _refused(self, submission_id: int, error: ApiError) -> None:
        with self._resources.ledger.write() as tx:
            _settle(tx, submission_id, submissions.REFUSED, error)
            moved = recordings.move(
                tx, self.recording, State.FAILED, by=self._by, reason=Reason.REQUEST_REFUSED, detail=str(error)
            )
        if moved:
            audit(moved)

    def _unknown(self, submission_id: int, error: ApiError) -> None:
        with self._resources.ledger.write() as tx:
            _settle(tx, submission_id, submissions.UNKNOWN, error)
            recordings.move(
                tx,
                self.recording,
                State.UNKNOWN,
                by=self._by,
                reason=Reason.OUTCOME_UNKNOWN,
                detail=str(error),
                due_at=after(self._resources.settings.unknown_after_seconds),
                new_epoch=True,
            )
        log.warning("submission_outcome_unknown", recording_id=self.recording.id, http_status=error.status)


def record_acceptance(resources: Resources, submission_id: int, accepted: Accepted, *, by: str) -> None:
    """Records the fact that a POST was accepted, whatever has become of the recording meanwhile."""
    with resources.ledger.write() as tx:
        settled = submissions.settle(
            tx,
            submission_id,
            submissions.ACCEPTED,
            http_status=accepted.status,
            correlation_id=accepted.correlation_id,
            transcription_id=accepted.transcription_id,
        )
        adopt(tx, resources, settled.recording_id, accepted.transcription_id, by=by)
    log.info("recording_submitted", recording_id=settled.recording_id, transcription_id=accepted.transcription_id)


def adopt(tx: Connection, resources: Resources, recording_id: int, transcription_id: str, *, by: str) -> None:
    """Makes a proved acceptance the recording's current one: from every state before `completed` it is transcribing."""
    recording = recordings.lock(tx, recording_id)
    if recording is None or recording.transcription_id == transcription_id:
        return
    if recording.state in BEFORE_COMPLETED and recording.transcription_id is None:
        recordings.move(
            tx,
            recording,
            State.TRANSCRIBING,
            by=by,
            due_at=after(resources.settings.effective_poll_after_seconds),
            new_epoch=recording.state != State.SUBMITTING,
            transcription_id=transcription_id,
            polls=0,
        )
        return
    detail = f"The API accepted it again as {transcription_id}, beside {recording.transcription_id}."
    recordings.note(tx, recording, by=by, reason=Reason.ACCEPTED_TWICE, detail=detail)
    log.error("recording_accepted_twice", recording_id=recording_id, transcription_id=transcription_id)


def _settle(tx: Connection, submission_id: int, outcome: str, error: ApiError) -> None:
    submissions.settle(tx, submission_id, outcome, http_status=error.status, correlation_id=error.correlation_id)
