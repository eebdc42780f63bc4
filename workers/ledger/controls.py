"""What must survive a wiped Redis: halts of an API client, and limits set at run time."""

import json
import time
from dataclasses import asdict, dataclass

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


def halt(tx: Connection, client_key: str) -> Halt | None:
    """The halt that stands for the API client, None when it may call."""
    value = tx.execute(_VALUE, {"name": _name(client_key)}).scalar()
    return None if value is None else Halt(**json.loads(value))


def set_halt(tx: Connection, client_key: str, new: Halt) -> None:
    """Puts a halt in force or replaces the one there is, keeping the moment at which the first began."""
    before = halt(tx, client_key)
    since = before.since if before else new.since
    value = json.dumps({**asdict(new), "since": since})
    row = {"name": _name(client_key), "value": value, "since": since}
    insert_or_ignore(tx, controls, [row])
    tx.execute(controls.update().where(controls.c.name == _name(client_key)).values(value=value))


def lift_halt(tx: Connection, client_key: str) -> bool:
    """Ends the halt; False when none stood."""
    return tx.execute(delete(controls).where(controls.c.name == _name(client_key))).rowcount == 1


def probe_due(standing: Halt) -> bool:
    return standing.next_probe_at <= time.time()


def _name(client_key: str) -> str:
    return f"halt:{client_key}"
