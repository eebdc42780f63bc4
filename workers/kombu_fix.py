"""Keeps a worker alive through a broker restart.

kombu 5.7.0's Redis channel asks a connection that was closed a second time for its address and meets None; the
AttributeError is no connection error, so Celery gives up ("Unrecoverable error", exit 1). Raising the transport's own
connection error instead lets its reconnection go on. Seen with Celery 5.7.0, kombu 5.7.0 in 4 of 8 broker restarts;
no upstream report was found. It can go when `tests/contract/test_kombu_fix.py` says that kombu no longer needs it.
"""

from importlib.metadata import version
from typing import Any

from kombu.transport import redis as transport

#: The release line in which the fault was seen; another one is left alone.
AFFECTED = "5.7."


def apply() -> None:
    """Puts the cure in place, once a process, where the installed kombu needs it."""
    channel: Any = transport.Channel  # celery-types leaves out what is private
    if not version("kombu").startswith(AFFECTED) or getattr(channel, "retroscribe_cured", False):
        return
    original = channel._get_pool  # noqa: SLF001 the fault is in there

    def _get_pool(self: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 kombu's signature
        if self.connection is None or self.connection.client is None:
            raise ConnectionError("the broker connection was closed")
        return original(self, asynchronous=asynchronous)

    channel._get_pool = _get_pool  # noqa: SLF001
    channel.retroscribe_cured = True
