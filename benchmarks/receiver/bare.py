"""The least that a receiver can do, for the ratio: reads the body and answers 202.

Served by `uvicorn benchmarks.receiver.bare:app` with the parser and the loop that the receiver uses.
"""

from typing import Any

_START = {
    "type": "http.response.start",
    "status": 202,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"21")],
}
_BODY = {"type": "http.response.body", "body": b'{"status":"accepted"}'}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_BODY)
