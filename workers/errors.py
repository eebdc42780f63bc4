"""Everything that can go wrong, as classes that decide what happens next.

RetroscribeError
+-- InputError                  a file, message or argument can't be used         exit code 2
+-- PartUnreachable             Redis, ledger, worker, receiver is not there      exit code 4
+-- LedgerError
|   +-- TransitionNotAllowed    a bug of ours: TRANSITIONS does not have it
+-- Retryable                   try again, after `retry_after_seconds` when known
|   +-- RateLimited             429, or no permit in time: burns no attempt
|   +-- LimiterUnavailable      Redis is down: nothing may be sent
|   +-- LedgerUnavailable       the ledger can't be read or written now
|   +-- ApiUnreachable          nothing was sent (DNS, connect, TLS, pool)
|   +-- ApiUnavailable          a safe request failed (5xx, timeout)
|   +-- TokenRejected           401: refresh once, repeat once
|   +-- SearchUnavailable       the search index can't be read or written now
|       +-- DocumentsNotStored  some documents of a batch could not be written
+-- Halted                      no call may be made until a person acts: marks nothing as failed
|   +-- CredentialsRejected     the token endpoint refused, or 401 twice
|   +-- ScopeMissing            403
+-- Permanent                   final for this recording, `reason` says why
|   +-- MediaNotFound           404 on the media
|   +-- RequestRefused          400, 404, 409, 413, 422 on the submission
|   +-- StatusUnavailable       the server has no status for this transcription (404, 405)
+-- OutcomeUnknown              a POST may have been accepted: never repeated blindly

Every argument goes to `super().__init__`, so that an exception survives pickling between processes.
"""

from collections.abc import Mapping


class RetroscribeError(Exception):
    """Something Retroscribe can name; its text is one sentence for a person."""


class InputError(RetroscribeError):
    """A file, a message or an argument can't be used."""


class PartUnreachable(RetroscribeError):
    """A part that the command needs does not answer."""


class LedgerError(RetroscribeError):
    """The ledger refused something."""


class TransitionNotAllowed(LedgerError):
    """A state change that the table TRANSITIONS does not have."""


class Retryable(RetroscribeError):
    """May succeed later; `retry_after_seconds` is None when nobody knows when."""

    burns_attempt = False
    #: The epoch that the recording had when its step was put off: the message that is tried again carries it.
    epoch: int | None = None

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, retry_after_seconds)
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.message


class RateLimited(Retryable):
    """The API's limit, or ours in its place, is used up for now."""


class LimiterUnavailable(Retryable):
    """Redis is down, so nobody can give leave to call."""


class LedgerUnavailable(Retryable):
    """The ledger can't be read or written now."""


class SearchUnavailable(Retryable):
    """The search index can't be read or written now."""


class DocumentsNotStored(SearchUnavailable):
    """Some documents of a batch could not be stored, all others are; `reasons` says why, by ref."""

    def __init__(self, message: str, reasons: Mapping[str, str], retry_after_seconds: float | None = None) -> None:
        Exception.__init__(self, message, reasons, retry_after_seconds)
        self.message = message
        self.reasons = reasons
        self.retry_after_seconds = retry_after_seconds


class ApiError(RetroscribeError):
    """What an answer of the API says: `status` None when there was no answer; `correlation_id` is for their support."""

    def __init__(
        self, message: str, status: int | None = None, code: str | None = None, correlation_id: str | None = None
    ) -> None:
        super().__init__(message, status, code, correlation_id)
        self.message = message
        self.status = status
        self.code = code
        self.correlation_id = correlation_id

    def __str__(self) -> str:
        return self.message


class RetryableApiError(ApiError, Retryable):
    """An API error that may pass; nothing was accepted."""

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str | None = None,
        correlation_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        Exception.__init__(self, message, status, code, correlation_id, retry_after_seconds)
        self.message = message
        self.status = status
        self.code = code
        self.correlation_id = correlation_id
        self.retry_after_seconds = retry_after_seconds


class ApiRateLimited(RetryableApiError, RateLimited):
    """429: `retry_after_seconds` is what the API said, None when it said nothing usable."""


class ApiUnreachable(RetryableApiError):
    """Nothing was sent: DNS, connect, TLS or pool."""


class ApiUnavailable(RetryableApiError):
    """A request that is safe to repeat failed: 5xx, 408, 425, a timeout, a broken connection."""

    burns_attempt = True


class TokenRejected(RetryableApiError):
    """401 on a call: the access token is expired or revoked."""


class Halted(ApiError):
    """No call may be made until a person acts; says what to do."""


class CredentialsRejected(Halted):
    """The client id or secret is not accepted."""


class ScopeMissing(Halted):
    """403: the client lacks a scope or is restricted."""


class Permanent(ApiError):
    """Final for this recording."""


class MediaNotFound(Permanent):
    """404 on the media."""


class RequestRefused(Permanent):
    """The submission was refused for good, and is not paid for."""


class StatusUnavailable(Permanent):
    """The server answers no status for this transcription: 404 or 405."""


class OutcomeUnknown(ApiError):
    """The submission left, and no answer says whether it was accepted."""
