"""The endpoints under /_sandbox that tests and people steer the sandbox with; they need no token."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.sandbox import wire
from workers.sandbox.api import Api
from workers.sandbox.faults import UnknownFault
from workers.sandbox.wire import Refusal


class Control:
    """Shows what the sandbox saw and switches its faults."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[Route]:
        return [
            Route("/_sandbox/stats", self._stats, methods=["GET"]),
            Route("/_sandbox/faults", self._show_faults, methods=["GET"]),
            Route("/_sandbox/faults", self._set_faults, methods=["PUT"]),
            Route("/_sandbox/reset", self._reset, methods=["POST"]),
        ]

    async def _stats(self, _: Request) -> Response:
        return wire.answer(self._api.stats.as_dict())

    async def _show_faults(self, _: Request) -> Response:
        return wire.answer(self._api.faults.shown())

    async def _set_faults(self, request: Request) -> Response:
        try:
            revoke_tokens = self._api.faults.replace(await request.json())
        except UnknownFault as error:
            raise Refusal(400, "bad.request", str(error)) from None
        except ValueError:
            raise Refusal(400, "bad.request", "The faults must be a JSON object.") from None
        if revoke_tokens:
            self._api.tokens.revoke_all()
        return wire.answer(self._api.faults.shown())

    async def _reset(self, _: Request) -> Response:
        self._api.stats.reset()
        return wire.answer({})
