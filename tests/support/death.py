"""Kills this process, as by a power cut, when it comes to a named point on the way of a recording.

`tests.support.part` arranges it: PART_DIES_AT is `POINT` or `POINT:N`, the N-th time that this process comes there.
"""

import os
import signal
from collections.abc import Callable
from functools import reduce
from importlib import import_module
from itertools import count
from typing import Any, Final

#: Of a submission, point: where it lies, and whether before or after the call.
POINTS: Final = {
    "before_intent": ("workers.pipeline.submit:_Attempt._intend", "before"),
    "after_intent": ("workers.pipeline.submit:_Attempt._intend", "after"),
    "request_sent": ("httpcore._sync.http11:HTTP11Connection._receive_response_headers", "before"),
    "answer_received": ("workers.genesys.client:GenesysClient.submit", "after"),
    "before_commit": ("workers.pipeline.acceptance:record", "after"),
    "after_commit": ("workers.pipeline.acceptance:keep_trying", "after"),
    "before_ack": ("tasks.submit:submit", "after"),
}
#: Of the end of a recording, likewise.
ENDS: Final = {
    "before_index_audit": ("workers.pipeline.index:audit", "before"),
    "after_index_audit": ("workers.pipeline.index:audit", "after"),
    "before_reject_audit": ("workers.pipeline.validate:audit", "before"),
    "after_reject_audit": ("workers.pipeline.validate:audit", "after"),
}


def arrange(wish: str) -> None:
    """Has this process die at the point named; raises KeyError for one that there is not."""
    point, _, number = wish.partition(":")
    place, when = (POINTS | ENDS)[point]
    module, _, path = place.partition(":")
    *way, name = path.split(".")
    holder = reduce(getattr, way, import_module(module))
    setattr(
        holder, name, _deadly(getattr(holder, name), when, int(number or 1), only_submissions=point == "request_sent")
    )


def _deadly(call: Callable[..., Any], when: str, number: int, *, only_submissions: bool) -> Callable[..., Any]:
    times = count(1)

    def dying(*args: Any, **options: Any) -> Any:
        counts = not only_submissions or b"/media/transcriptions" in _target(args, options)
        if counts and when == "before" and next(times) == number:
            _die()
        result = call(*args, **options)
        if counts and when == "after" and next(times) == number:
            _die()
        return result

    return dying


def _target(args: tuple[Any, ...], options: dict[str, Any]) -> bytes:
    request = options.get("request") or args[1]
    return bytes(request.url.target) if request.method == b"POST" else b""


def _die() -> None:
    print("PART_DIES_AT: here", flush=True)  # noqa: T201 the test looks for it in the log
    os.kill(os.getpid(), signal.SIGKILL)
