"""Named locks with an expiry, for what only one process of the fleet may do at a time."""

import time
from typing import Final

from sqlalchemy import ColumnElement, Connection, Double, case, cast, func, literal, select, update

from workers.ledger.statements import insert_or_ignore
from workers.ledger.tables import leases

#: Holds nothing: the lock was given back.
_NOBODY: Final = ""


def take(tx: Connection, name: str, holder: str, seconds: float) -> bool:
    """Takes or renews the lock for `seconds`; False when another holder's has not expired.

    One clock decides, the database's, so the clocks of the machines need not agree. A holder that is slower than it
    thought may be overtaken: what is done under the lock must be safe to do twice.
    """
    insert_or_ignore(tx, leases, [{"name": name, "holder": holder, "expires_at": 0.0}])
    now = _now(tx)
    mine = (
        update(leases)
        .where(leases.c.name == name, leases.c.holder.in_((holder, _NOBODY)) | (leases.c.expires_at <= now))
        .values(holder=holder, expires_at=now + seconds)
    )
    return tx.execute(mine).rowcount == 1


def release(tx: Connection, name: str, holder: str) -> None:
    """Gives the lock back if it is still the holder's; its row then tells when that was."""
    mine = update(leases).where(leases.c.name == name, leases.c.holder == holder)
    tx.execute(mine.values(holder=_NOBODY, expires_at=_now(tx)))


def idle_seconds(tx: Connection, name: str) -> float | None:
    """For how long nobody has held the lock, by the clock of `take`: 0 while somebody does, None if nobody ever did."""
    now = _now(tx)
    held = (leases.c.holder != _NOBODY) & (leases.c.expires_at > now)
    idle = select(case((held, 0.0), else_=now - leases.c.expires_at)).where(leases.c.name == name)
    seconds = tx.execute(idle).scalar()
    return None if seconds is None else max(0.0, float(seconds))


def _now(tx: Connection) -> ColumnElement[float]:
    if tx.dialect.name == "sqlite":
        return literal(time.time(), Double)  # one machine, one clock; its own is coarse in older versions
    return cast(func.extract("epoch", func.clock_timestamp()), Double)
