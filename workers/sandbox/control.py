"""The endpoints under /_sandbox that tests and people steer the sandbox with; they need no token."""

import json
from math import inf
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.errors import InputError
from workers.sandbox import wire
from workers.sandbox.api import Api
from workers.sandbox.config import MAX_RATE
from workers.sandbox.faults import read_faults
from workers.sandbox.wire import Refusal

#: The longest that a neighbour may stay.
LONGEST_STAY_SECONDS = 3600


class Control:
    """Shows what the sandbox saw, switches its faults, changes its limit and invites a neighbour to it."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[Route]:
        return [
            Route("/_sandbox/stats", self._stats, methods=["GET"]),
            Route("/_sandbox/faults", self._show_faults, methods=["GET"]),
            Route("/_sandbox/faults", self._set_faults, methods=["PUT"]),
            Route("/_sandbox/series", self._series, methods=["GET"]),
            Route("/_sandbox/limits", self._show_limits, methods=["GET"]),
            Route("/_sandbox/limits", self._set_limits, methods=["PUT"]),
            Route("/_sandbox/neighbour", self._show_neighbour, methods=["GET"]),
            Route("/_sandbox/neighbour", self._set_neighbour, methods=["PUT"]),
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
            raise _bad(str(error)) from None
        revoke_tokens = self._api.faults.replace(wanted)
        if revoke_tokens:
            self._api.tokens.revoke_all()
        return wire.answer(self._api.faults.shown())

    async def _series(self, _: Request) -> Response:
        return wire.answer(self._api.limits.series())

    async def _show_limits(self, _: Request) -> Response:
        return wire.answer({"limiter": self._api.limits.kind, "rate": self._api.limits.rate})

    async def _set_limits(self, request: Request) -> Response:
        wanted = await _object(request, '{"rate": 6}', "rate")
        self._api.limits.set_rate(_number("rate", wanted["rate"], above=0, most=MAX_RATE))
        return await self._show_limits(request)

    async def _show_neighbour(self, _: Request) -> Response:
        return wire.answer(self._api.limits.neighbour())

    async def _set_neighbour(self, request: Request) -> Response:
        wanted = await _object(request, '{"shares": [0.5, 0.2], "seconds": 24}', "shares", "seconds")
        shares = wanted["shares"]
        if not isinstance(shares, list):
            raise _bad("shares: must be a list of shares of the limit, each from 0 to 1")
        taken = tuple(_number(f"shares[{n}]", share, least=0, most=1) for n, share in enumerate(shares))
        most = LONGEST_STAY_SECONDS / max(1, len(taken))
        self._api.limits.set_neighbour(taken, _number("seconds", wanted["seconds"], above=0, most=most))
        return await self._show_neighbour(request)

    async def _reset(self, _: Request) -> Response:
        self._api.reset()
        return wire.answer({})


async def _object(request: Request, example: str, *names: str) -> dict[str, Any]:
    """The JSON object in the body; raises Refusal unless it has exactly these names."""
    try:
        found = json.loads(await request.body())
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.keys() != set(names):
        raise _bad(f"body: must be a JSON object with {' and '.join(names)}, such as {example}")
    return found


def _number(name: str, value: object, *, least: float = -inf, above: float = -inf, most: float) -> float:
    """The value; raises Refusal unless it is a number within the bounds."""
    if type(value) in (int, float) and least <= value <= most and value > above:  # type: ignore[operator]  # see type()
        return float(value)  # type: ignore[arg-type]
    low = f"from {least:g}" if least > -inf else f"more than {above:g}"
    raise _bad(f"{name}: must be a number {low} up to {most:g}")


def _bad(message: str) -> Refusal:
    return Refusal(400, "bad.request", message)
