"""What stands in for an answer where there is none."""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class CutConnection(Response):
    """No answer at all: the connection is closed. Needs the server's protocol to put its transport into the state."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 ASGI's signature
        scope["state"]["transport"].abort()
        # The server must see that the connection is lost before this returns, or it would complain of no answer.
        await asyncio.sleep(0)


class Hang(Response):
    """No answer at all: the connection stays open until the caller closes it, or the server stops."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            # Only a server that stops cancels a call.
            await CutConnection()(scope, receive, send)
