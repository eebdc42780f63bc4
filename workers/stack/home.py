"""The home of an embedded stack: one stack at a time, told apart by a lock that dies with its holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.errors import InputError, PartUnreachable
from workers.ledger.engine import refuse_network_file_system


@contextmanager
def occupied(home: Path) -> Iterator[None]:
    """Holds the home while the block runs.

    Raises PartUnreachable when another stack has it, InputError when the folder can't be used.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_network_file_system(home)
        lock = (home / "lock").open("a+")
    except OSError as error:
        raise InputError(f"RETROSCRIBE_HOME {home} can't be used ({error.strerror}): choose another folder.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip()
            raise PartUnreachable(
                f"Retroscribe runs already in {home}{f' (process {holder})' if holder else ''}: use that one, "
                "or set RETROSCRIBE_HOME to another folder."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)
