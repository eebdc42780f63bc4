"""Two cures for kombu's Redis channel: one keeps a worker alive through a broker restart, one makes it quicker.

kombu 5.7.0's Redis channel asks a connection that was closed a second time for its address and meets None; the
AttributeError is no connection error, so Celery gives up ("Unrecoverable error", exit 1). Raising the transport's own
connection error instead lets its reconnection go on. Seen with Celery 5.7.0, kombu 5.7.0 in 4 of 8 broker restarts;
no upstream report was found.

It also makes a Redis client for each message sent or acknowledged. All of them share one pool of connections, but each
copies a table of 170 entries first (github.com/redis/redis-py/issues/3624), which was a tenth of what a busy worker
does. One client for each pool does the same: redis-py's are made to be shared by threads.

Each can go when `tests/contract/test_kombu_fix.py` says that kombu no longer needs it.
"""

from importlib.metadata import version
from typing import Any

from kombu.transport import redis as transport

#: The release line in which the faults were seen; another one is left alone.
AFFECTED = "5.7."


def apply() -> None:
    """Puts the cures in place, once a process, where the installed kombu needs them."""
    channel: Any = transport.Channel  # celery-types leaves out what is private
    if not version("kombu").startswith(AFFECTED) or getattr(channel, "retroscribe_cured", False):
        return
    channel._get_pool = _meeting_a_closed_connection(channel._get_pool)  # noqa: SLF001
    channel._create_client = _once_a_pool(channel._create_client)  # noqa: SLF001
    channel.retroscribe_cured = True


def _meeting_a_closed_connection(original: Any) -> Any:
    def _get_pool(self: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 kombu's signature
        if self.connection is None or self.connection.client is None:
            raise ConnectionError("the broker connection was closed")
        return original(self, asynchronous=asynchronous)

    return _get_pool


def _once_a_pool(original: Any) -> Any:
    def _create_client(self: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 kombu's signature
        if asynchronous:
            return original(self, asynchronous=True)  # kept by kombu itself, and its connection belongs to one thread
        kept = getattr(self, "retroscribe_client", None)
        if kept is None or kept.connection_pool is not self.pool:
            kept = self.retroscribe_client = original(self)
        return kept

    return _create_client
