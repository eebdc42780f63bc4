"""The endpoints under /_sandbox that tests and people steer the sandbox with; they need no token."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.errors import InputError
from workers.sandbox import wire
from workers.sandbox.api import Api
from workers.sandbox.faults import read_faults
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

    async def _stats(self, request: Request) -> Response:
        return wire.answer(self._api.stats.as_dict(brief="brief" in request.query_params))

    async def _show_faults(self, _: Request) -> Response:
        return wire.answer(self._api.faults.shown())

    async def _set_faults(self, request: Request) -> Response:
        try:
            wanted = read_faults(await request.body())
        except InputError as error:
            raise Refusal(400, "bad.request", str(error)) from None
        revoke_tokens = self._api.faults.replace(wanted)
        if revoke_tokens:
            self._api.tokens.revoke_all()
        return wire.answer(self._api.faults.shown())

    async def _reset(self, _: Request) -> Response:
        self._api.stats.reset()
        return wire.answer({})
