"""What must survive a wiped Redis: halts, whether the API has a status route, limits set at run time."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from workers.ledger.statements import insert_or_ignore
from workers.ledger.tables import controls

_VALUE = select(controls.c.value).where(controls.c.name == bindparam("name"))


@dataclass(frozen=True, slots=True)
class Halt:
    """Why nothing is submitted for an API client: `next_probe_at` is when one recording may try again."""

    reason: str
    detail: str
    call_class: str
    since: float
    next_probe_at: float
    probe_recording_id: int | None = None


@dataclass(frozen=True, slots=True)
class StatusRoute:
    """Whether the API answers status look-ups, by its last answer that told; `since` is Unix seconds."""

    works: bool
    why: str
    since: float


def halt(tx: Connection, client_key: str) -> Halt | None:
    """The halt that stands for the API client, None when it may call."""
    value = tx.execute(_VALUE, {"name": _name(client_key)}).scalar()
    return None if value is None else Halt(**json.loads(value))


def set_halt(tx: Connection, client_key: str, new: Halt) -> None:
    """Puts a halt in force or replaces the one there is, keeping the moment at which the first began."""
    before = halt(tx, client_key)
    since = before.since if before else new.since
    _put(tx, _name(client_key), asdict(new) | {"since": since}, since)


def lift_halt(tx: Connection, client_key: str) -> bool:
    """Ends the halt; False when none stood."""
    return tx.execute(delete(controls).where(controls.c.name == _name(client_key))).rowcount == 1


def probe_due(standing: Halt) -> bool:
    return standing.next_probe_at <= time.time()


def status_route(tx: Connection, client_key: str) -> StatusRoute | None:
    """What is known of the API's status route, None when it was never asked with success or refused."""
    value = tx.execute(_VALUE, {"name": f"status-route:{client_key}"}).scalar()
    return None if value is None else StatusRoute(**json.loads(value))


def set_status_route(tx: Connection, client_key: str, *, works: bool, why: str) -> None:
    """Remembers whether the API has a status route, and why we think so."""
    known = StatusRoute(works, why, time.time())
    _put(tx, f"status-route:{client_key}", asdict(known), known.since)


def limits(tx: Connection, client_key: str) -> dict[str, float]:
    """The limits set at run time, permits per second by call class; empty when the published ones are in force."""
    value = tx.execute(_VALUE, {"name": f"limits:{client_key}"}).scalar()
    return {} if value is None else json.loads(value)


def set_limit(tx: Connection, client_key: str, call_class: str, per_second: float | None) -> None:
    """Keeps a limit for a call class, with None the published one again."""
    others = {name: value for name, value in limits(tx, client_key).items() if name != call_class}
    _put(tx, f"limits:{client_key}", others if per_second is None else {**others, call_class: per_second}, time.time())


def _put(tx: Connection, name: str, value: Mapping[str, Any], since: float) -> None:
    text = json.dumps(value)
    insert_or_ignore(tx, controls, [{"name": name, "value": text, "since": since}])
    tx.execute(controls.update().where(controls.c.name == name).values(value=text, since=since))


def _name(client_key: str) -> str:
    return f"halt:{client_key}"
