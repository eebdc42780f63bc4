"""How a result can come back to us: by webhook, by status look-ups, or, then nothing is submitted, not at all."""

import time
from enum import StrEnum
from typing import Final

import structlog
from sqlalchemy import Connection

from workers.ledger import controls
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: A server without a status route is asked again after this long: it may have been given one.
LOOK_AGAIN_SECONDS: Final = 3600.0
#: Without webhooks, the first accepted recording is looked up this soon: the others wait for what comes of it.
PROVE_AFTER_SECONDS: Final = 2.0

NO_WAY: Final = (
    "Nothing is submitted: the API can't reach us (RETROSCRIBE_PUBLIC_URL is not set) and it has no status route, so "
    "no transcript would ever come back. Set RETROSCRIBE_PUBLIC_URL to the receiver's address and restart."
)


class WayBack(StrEnum):
    """UNPROVED: only status look-ups are left, and none has been answered yet."""

    WEBHOOKS = "webhooks"
    POLLING = "polling"
    UNPROVED = "unproved"
    NONE = "none"


def way_back(tx: Connection, resources: Resources) -> WayBack:
    """How results come back, as far as is known."""
    if resources.settings.callback_base_url is not None:
        return WayBack.WEBHOOKS
    route = controls.status_route(tx, resources.client_key)
    if route is None:
        return WayBack.UNPROVED
    return WayBack.POLLING if route.works else WayBack.NONE


def first_look_seconds(tx: Connection, resources: Resources) -> float:
    """How long after its acceptance a recording is looked up first."""
    if way_back(tx, resources) == WayBack.UNPROVED:
        return PROVE_AFTER_SECONDS
    return resources.settings.effective_poll_after_seconds


def worth_asking(tx: Connection, resources: Resources) -> bool:
    """Whether a status look-up makes sense now."""
    route = controls.status_route(tx, resources.client_key)
    return route is None or route.works or time.time() >= route.since + LOOK_AGAIN_SECONDS


def learn(resources: Resources, *, works: bool, why: str) -> None:
    """Remembers for the whole fleet whether the API has a status route; `why` is what showed it."""
    with resources.ledger.read() as tx:
        before = controls.status_route(tx, resources.client_key)
    if before is not None and before.works and works:
        return
    with resources.ledger.write() as tx:
        controls.set_status_route(tx, resources.client_key, works=works, why=why)
    if before is None or before.works != works:
        log.warning("status_route_learned", works=works, why=why)
