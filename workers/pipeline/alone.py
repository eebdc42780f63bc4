"""What only one process of the fleet does at a time."""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from workers.errors import LedgerUnavailable
from workers.ledger import leases
from workers.resources import Resources

#: Containers may have the same host name and process id.
_HOLDER: Final = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"[-128:]


@contextmanager
def alone(resources: Resources, name: str, seconds: float) -> Iterator[bool]:
    """Holds the named lease while the block runs, at most so long; False when another process has it."""
    with resources.ledger.write() as tx:
        mine = leases.take(tx, name, _HOLDER, seconds)
    try:
        yield mine
    finally:
        if mine:
            with suppress(LedgerUnavailable), resources.ledger.write() as tx:  # else it expires
                leases.release(tx, name, _HOLDER)


def keep(resources: Resources, name: str, seconds: float) -> None:
    """Renews a lease that `alone` gave, for work that takes longer; raises LedgerUnavailable when another has it."""
    with resources.ledger.write() as tx:
        if not leases.take(tx, name, _HOLDER, seconds):
            raise LedgerUnavailable(f"Another process has taken over the lease {name}.")
