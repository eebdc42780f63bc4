"""Second step: submits exactly once. The intent is committed before the socket opens, facts are always recorded."""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

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
from workers.genesys.schemas import request_digest
from workers.genesys.tokens import AccessToken
from workers.ledger import course, events, recordings, spending, submissions
from workers.ledger.tables import RUNNING
from workers.limits.guard import NotCalled
from workers.limits.limiter import Permit
from workers.model import CallClass, Reason, Recording, State
from workers.pipeline import acceptance, api, unknown
from workers.pipeline.acceptance import Acceptance
from workers.pipeline.bounds import pause_at_cap
from workers.pipeline.callbacks import callback_uri
from workers.pipeline.clock import NOW, after
from workers.pipeline.finish import audit
from workers.pipeline.hours import may_go
from workers.pipeline.postpone import OUT_SECONDS, GivenBack, halted, hold_back, postpone, stands_still
from workers.pipeline.sent import Sent, settle
from workers.pipeline.way_back import WayBack, way_back
from workers.resources import Resources

log = structlog.get_logger(__name__)
T = TypeVar("T")

#: Nothing is sent when the intent is older than this by then: its lease could run out while the call is on its way.
INTENT_IS_FRESH_SECONDS: Final = 10.0


class _NotOurs(NotCalled):
    """The recording is not ours to submit."""


class _Stopped(_NotOurs):
    """The recording's backfill is paused or cancelled, or in its quiet hours."""


class _NoRoom(_NotOurs):
    """A cap of the recording's backfill leaves no room for it."""


def submit(resources: Resources, recording_id: int, epoch: int, *, by: str) -> bool:
    """Submits a validated recording; True when it was accepted and its chain goes on.

    A message whose epoch is not the recording's does nothing, and nothing of a backfill that is paused or cancelled, in
    its quiet hours or at a cap is submitted. Raises Retryable with its delay when the API surely did not accept; an
    unknown outcome is recorded, never repeated. Safe to repeat.
    """
    acceptance.take_spooled(resources, by=by)
    with resources.ledger.read() as tx:
        recording = recordings.get(tx, recording_id)
    mine = recording is not None and recording.epoch == epoch and recording.state == State.VALIDATED
    if recording is None or not mine or stands_still(resources, recording, by=by):
        return False
    attempt = _Attempt(resources, recording, by)
    try:
        api.call(resources, CallClass.SUBMIT, attempt, lane=recording.lane, recording_id=recording.id)
    except (_Stopped, _NoRoom) as why:
        with resources.ledger.write() as tx:
            if isinstance(why, _NoRoom):
                pause_at_cap(tx, attempt.recording)
            if not hold_back(tx, attempt.recording, by=by):
                recordings.amend(tx, attempt.recording, due_at=NOW)  # it may go again meanwhile
        return False
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

    def __call__(self, token: AccessToken, permit: Permit) -> Accepted:
        intended = time.monotonic()
        sent = self._intend()
        try:
            accepted = self._post(token, sent, intended, permit.steady_at)
        except (RetryableApiError, Halted) as error:
            self._not_accepted(sent, error)
            raise
        except RequestRefused as error:
            self._refused(sent, error)
            raise
        except OutcomeUnknown as error:
            self._unknown(sent, error)
            raise
        fact = Acceptance(sent.callback_ref, accepted.transcription_id, accepted.status, accepted.correlation_id)
        lease_left = intended + self._resources.settings.submit_lease_seconds - time.monotonic()
        acceptance.keep_trying(self._resources, fact, by=self._by, seconds=lease_left)
        ids = {"recording_id": self.recording.id, "transcription_id": accepted.transcription_id}
        log.info("recording_submitted", **ids)
        return accepted

    def _post(self, token: AccessToken, sent: Sent, intended: float, not_before: float) -> Accepted:
        return self._resources.client.submit(
            token,
            self.recording.request,
            callback_uri=sent.callback_uri,
            idempotency_key=sent.callback_ref,
            send_before=intended + INTENT_IS_FRESH_SECONDS,
            not_before=not_before,
        )

    def _intend(self) -> Sent:
        """Writes down what is about to be sent; raises _NotOurs when that is not for us to do, or not now."""
        resources, epoch = self._resources, self.recording.epoch + 1
        with resources.ledger.write() as tx:
            behind = self._check(tx)
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
            sent = self._open(tx, epoch)
            if sent and behind.counted:
                if not spending.reserve(tx, self.recording, behind.id, epoch):
                    raise _NoRoom  # and what was written above is not
                sent = replace(sent, counted_at=epoch)
        if sent is None:
            raise _NotOurs
        self.recording = moved
        return sent

    def _check(self, tx: Connection) -> course.Behind:
        """The recording's backfill, which stays as it is until this write ends; raises _NotOurs when it may not go."""
        resources = self._resources
        behind = course.behind(tx, self.recording.id)
        if behind.state != RUNNING or not may_go(behind.only_between, time.time()):
            raise _Stopped
        leave = api.leave(tx, resources, self.recording)
        if (
            leave == api.Leave.HALTED
            or self.recording.state != State.VALIDATED
            or way_back(tx, resources) == WayBack.NONE
            or events.is_waiting(tx, self.recording.id)
        ):
            raise _NotOurs
        self.probes = leave == api.Leave.PROBE
        return behind

    def _open(self, tx: Connection, epoch: int) -> Sent | None:
        """A new submission, or the one to be repeated; None when that can't be done any more."""
        settings, recording = self._resources.settings, self.recording
        if recording.repeats is None:
            ref = uuid.uuid4().hex
            base_url = settings.callback_base_url
            uri = callback_uri(base_url, ref, settings.signing_secrets) if base_url else None
            digest = request_digest(recording.request, uri)
            return Sent(
                submissions.open_next(tx, recording.id, callback_ref=ref, epoch=epoch, request_digest=digest), ref, uri
            )
        submission = submissions.get(tx, recording.repeats)
        try:
            uri = unknown.same_callback_uri(settings, recording.request, submission)
        except unknown.NotRepeatable as problem:
            unknown.not_repeated(tx, recording, str(problem), by=self._by)
            return None
        submissions.reopen(tx, submission, epoch=epoch)
        return Sent(submission.id, submission.callback_ref, uri)

    def _not_accepted(self, sent: Sent, error: ApiError) -> None:
        def write(tx: Connection) -> Recording | None:
            settled = settle(tx, sent, submissions.NOT_SENT, error)
            present = recordings.get(tx, self.recording.id)
            if present and (present.state, present.epoch) == (State.VALIDATED, self.recording.epoch):
                return present  # written before by a commit that was not heard of
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
            if moved is None:
                unknown.free(tx, settled, str(error), by=self._by)
            return moved

        # Not before it is committed: it may have to be written once more.
        self.recording = self._write(write) or self.recording

    def _refused(self, sent: Sent, error: ApiError) -> None:
        def write(tx: Connection) -> None:
            settled = settle(tx, sent, submissions.REFUSED, error)
            if settled.outcome == submissions.UNKNOWN:
                detail = f"Its repetition was refused, the first sending may have been accepted: {error}"
                unknown.mark(tx, self.recording, Reason.REPEAT_REFUSED, detail, by=self._by)
                return
            reason = Reason.REQUEST_REFUSED
            moved = recordings.move(tx, self.recording, State.FAILED, by=self._by, reason=reason, detail=str(error))
            if moved is None:
                unknown.free(tx, settled, str(error), by=self._by)
            else:
                audit(moved)

        self._write(write)
        log.warning("submission_refused", recording_id=self.recording.id, http_status=error.status)

    def _unknown(self, sent: Sent, error: ApiError) -> None:
        due_at = after(self._resources.settings.unknown_after_seconds)

        def write(tx: Connection) -> None:
            settle(tx, sent, submissions.UNKNOWN, error)
            unknown.mark(tx, self.recording, Reason.OUTCOME_UNKNOWN, str(error), by=self._by, due_at=due_at)

        self._write(write)
        log.warning("submission_outcome_unknown", recording_id=self.recording.id, http_status=error.status)

    def _write(self, write: Callable[[Connection], T]) -> T:
        """Writes what an answer says, trying for as long as the lease lasts: after it the outcome would be unknown."""
        while True:
            try:
                with self._resources.ledger.write() as tx:
                    # First, as everywhere: who locks the submission first and then this could wait for a webhook's
                    # transaction, which waits for it.
                    recordings.lock(tx, self.recording.id)
                    return write(tx)
            except LedgerUnavailable:
                if time.time() > (self.recording.due_at or 0) or self._resources.stopping.wait(1):
                    raise
