"""What several subcommands need: resources of a home that is really there, and a console."""

import getpass
import logging
import os
import socket
import sys
from typing import Final

from rich.console import Console

from config import queues
from config.logging import configure_logging
from config.settings import Settings, load_settings
from workers.errors import PartUnreachable
from workers.ledger.engine import sqlite_path
from workers.resources import Resources, get_resources

#: Wide enough that nothing is wrapped or cut for whoever reads our output from a pipe or a file.
_UNBOUNDED: Final = 10_000

#: The history keeps that many characters of who did something.
BY_LENGTH: Final = 128

# On a terminal it asks for the width each time.
console = Console(highlight=False, width=None if sys.stdout.isatty() else _UNBOUNDED)
#: For sentences: whatever stands in [brackets] in them is text, and the terminal breaks them, not we.
errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def existing_resources() -> Resources:
    """Resources over a ledger that exists; raises PartUnreachable, naming the path, where there is none."""
    resources = _resources()
    path = sqlite_path(resources.settings.effective_database_url)
    if path is not None and not path.exists():
        raise PartUnreachable(
            f"There is no ledger at {path}: start `retroscribe up` in the folder that is to hold it, "
            "or set RETROSCRIBE_HOME or RETROSCRIBE_DATABASE_URL to where it is."
        )
    return resources


def new_resources() -> Resources:
    """Resources over a ledger that is made where an embedded one is missing."""
    from workers.ledger.migrate import check_version, current_version, migrate

    resources = _resources()
    embedded = resources.settings.database_url is None
    if embedded and current_version(resources.ledger) is None:
        migrate(resources.ledger)
    check_version(resources.ledger)
    return resources


def missing_consumers(settings: Settings) -> set[str]:
    """The queues that nobody consumes; raises PartUnreachable when the broker does not answer."""
    if settings.embedded_redis and not settings.socket_path.exists():
        raise PartUnreachable(
            f"No Retroscribe runs with the home {settings.home}: start `retroscribe up` in this folder."
        )
    from workers import dispatch

    return set(queues.ALL) - dispatch.consumed_queues()


def person(command: str) -> str:
    """Who does it, for the history."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may run under an id without a name
        user = str(os.getuid())
    return f"retroscribe {command} ({user}@{socket.gethostname()})"[:BY_LENGTH]


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 10 s, 2 h 5 min, 3 days 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days {whole % 86400 // 3600} h"


def _resources() -> Resources:
    settings = load_settings()
    # What a person is to know, the command says in a sentence.
    configure_logging(settings.log_format, level=logging.ERROR)
    return get_resources()
