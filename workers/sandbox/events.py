"""The events of a finished transcription: what goes out, where to, and in which order."""

import json
from typing import Any

from workers.sandbox.wire import Submission, Webhook

COMPLETED, FAILED = "transcription.completed", "transcription.failed"
FAILURE = "The media can't be transcribed."
#: Where these words turn up, an event was believed that must not be.
FOREIGN_WORDS = "These words belong to another recording."

Delivery = tuple[str, bytes]
"""A URI and the body to post to it."""


def deliveries(way: str, submission: Submission, data: dict[str, Any]) -> list[list[Delivery]]:
    """What to deliver when `data` is the status object: each list in its order, the lists at the same time.

    `way` is a value of the fault `webhooks`; of a transcription that failed, nothing but a forged event is made up.
    Events that a webhook did not ask for are left out.
    """
    wanted = [webhook for webhook in submission.webhooks if _type(data) in webhook.events]
    found = [_in_order(way, webhook, submission.media_id, data) for webhook in wanted]
    return found * 2 if way == "doubled" else found


def _in_order(way: str, webhook: Webhook, media_id: str, data: dict[str, Any]) -> list[Delivery]:
    uri, completed = webhook.uri, data["status"] == "completed"
    before: list[Delivery] = []
    after: list[Delivery] = []
    match way:
        case "forged":
            head, _, token = uri.rpartition("/")
            before = [(f"{head}/{token[:-6]}forged", _body(_foreign(data, media_id)))]
        case "wrong_media" if completed:
            before = [(uri, _body(_foreign(data, media_id[::-1])))]
        case "contradicted" if completed and FAILED in webhook.events:
            before = after = [(uri, _body(_without_result(data) | {"status": "failed", "message": FAILURE}))]
        case "out_of_order" if completed:
            after = [(uri, _body(_without_result(data)))]
        case "no_result":
            data = _without_result(data)
    return [*before, (uri, _body(data)), *after]


def _type(data: dict[str, Any]) -> str:
    return COMPLETED if data["status"] == "completed" else FAILED


def _body(data: dict[str, Any]) -> bytes:
    return json.dumps({"eventType": _type(data), "data": data}, ensure_ascii=False).encode()


def _without_result(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "result"}


def _foreign(data: dict[str, Any], media_id: str) -> dict[str, Any]:
    transcripts = [{"text": FOREIGN_WORDS, "confidence": 0.9}]
    result = {"mediaId": media_id, "redacted": False, "transcripts": transcripts}
    return data | {"status": "completed", "result": result}
