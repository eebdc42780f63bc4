"""What the receiver answers: always a JSON object that says what is wrong and what to do, and nothing else."""

from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

#: How long a sender is asked to wait when the ledger can't be written.
RETRY_AFTER_SECONDS: Final = 5


class Answer(BaseModel):
    """Every answer: one word for programs and, when something is wrong, a sentence for people."""

    status: Literal[
        "accepted",
        "ok",
        "bad_request",
        "unauthorized",
        "not_found",
        "method_not_allowed",
        "too_slow",
        "too_large",
        "unsupported",
        "too_many_headers",
        "malformed",
        "error",
        "unavailable",
    ]
    detail: Annotated[str | None, Field(description="Absent when all is well.")] = None


def answer(status: HTTPStatus, word: str, detail: str | None = None, **headers: str) -> JSONResponse:
    """An answer with this status; `headers` have underscores in place of hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"status": word} | ({"detail": detail} if detail else {}), status, headers=named)


def accepted() -> JSONResponse:
    return answer(HTTPStatus.OK, "accepted")


def unauthorized() -> JSONResponse:
    # The same for a token that nobody minted, for one of another recording, and without a wanted signature: nothing
    # is given away.
    return answer(HTTPStatus.UNAUTHORIZED, "unauthorized", "The callback token is not valid for this event.")


def unavailable() -> JSONResponse:
    said = "The event could not be kept; send it again."
    return answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", said, Retry_After=f"{RETRY_AFTER_SECONDS}")


def too_large(most: int) -> JSONResponse:
    return answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"At most {most} bytes are taken.")


def crashed() -> JSONResponse:
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "error", "A fault of the receiver; send the event again.")


_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["eventType"],
    "properties": {
        "eventType": {
            "type": "string",
            "minLength": 1,
            "description": "transcription.completed or transcription.failed; others are accepted and not kept.",
        },
        "data": {
            "type": "object",
            "properties": {
                "transcriptionId": {"type": "string", "minLength": 1, "maxLength": 128},
                "status": {"type": "string"},
                "startedAt": {"type": "string", "format": "date-time"},
                "completedAt": {"type": "string", "format": "date-time"},
                "result": {
                    "type": "object",
                    "properties": {
                        "mediaId": {"type": "string"},
                        "redacted": {"type": "boolean"},
                        "transcripts": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {"text": {"type": "string"}, "confidence": {"type": "number"}},
                            },
                        },
                    },
                },
            },
        },
    },
}

#: The body of a delivery, for the OpenAPI document; what is read is more forgiving.
REQUEST_BODY: Final = {"requestBody": {"required": True, "content": {"application/json": {"schema": _EVENT}}}}


def described(**texts: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a route for the OpenAPI document, by status as in `s200`."""
    return {int(name[1:]): {"model": Answer, "description": text} for name, text in texts.items()}


DELIVERY_ANSWERS: Final = described(
    s200="Kept, or nothing that needs to be kept: do not send it again.",
    s400="The body is no event, or the request no HTTP: the same again will fare no better.",
    s401="The token, or the signature where one is wanted, is not valid for this event.",
    s405="Only POST is taken.",
    s408="The request did not arrive in time.",
    s413="The body is too large; the result is looked up instead.",
    s415="The body is compressed, or something else than JSON.",
    s431="Too many headers, or too large ones.",
    s500="A fault of the receiver: send it again.",
    s503="The event could not be kept: send it again after Retry-After seconds.",
)
DELIVERY_ANSWERS[503]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
