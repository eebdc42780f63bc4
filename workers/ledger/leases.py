"""Named locks with an expiry, for what only one process of the fleet may do at a time."""

import time

from sqlalchemy import Connection, delete, update

from workers.ledger.statements import insert_or_ignore
from workers.ledger.tables import leases


def take(tx: Connection, name: str, holder: str, seconds: float) -> bool:
    """Takes or renews the lock for `seconds`; False when another holder's has not expired."""
    now = time.time()
    insert_or_ignore(tx, leases, [{"name": name, "holder": holder, "expires_at": now + seconds}])
    mine = (
        update(leases)
        .where(leases.c.name == name, (leases.c.holder == holder) | (leases.c.expires_at <= now))
        .values(holder=holder, expires_at=now + seconds)
    )
    return tx.execute(mine).rowcount == 1


def release(tx: Connection, name: str, holder: str) -> None:
    """Gives the lock back if it is still the holder's."""
    tx.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))
