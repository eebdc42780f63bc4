"""Named locks with an expiry, for what only one process of the fleet may do at a time."""

import time

from sqlalchemy import ColumnElement, Connection, Double, cast, delete, func, literal, update

from workers.ledger.statements import insert_or_ignore
from workers.ledger.tables import leases


def take(tx: Connection, name: str, holder: str, seconds: float) -> bool:
    """Takes or renews the lock for `seconds`; False when another holder's has not expired.

    One clock decides, the database's, so the clocks of the machines need not agree. A holder that is slower than it
    thought may be overtaken: what is done under the lock must be safe to do twice.
    """
    insert_or_ignore(tx, leases, [{"name": name, "holder": holder, "expires_at": 0.0}])
    now = _now(tx)
    mine = (
        update(leases)
        .where(leases.c.name == name, (leases.c.holder == holder) | (leases.c.expires_at <= now))
        .values(holder=holder, expires_at=now + seconds)
    )
    return tx.execute(mine).rowcount == 1


def release(tx: Connection, name: str, holder: str) -> None:
    """Gives the lock back if it is still the holder's."""
    tx.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))


def _now(tx: Connection) -> ColumnElement[float]:
    if tx.dialect.name == "sqlite":
        return literal(time.time(), Double)  # one machine, one clock; its own is coarse in older versions
    return cast(func.extract("epoch", func.clock_timestamp()), Double)
