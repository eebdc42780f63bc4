"""Several machines: homes of their own, and nothing in common but the URLs of broker and ledger."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.conftest import free_port
from tests.support.broker import Broker
from tests.support.fleet import Fleet
from tests.support.sandbox import Sandbox


class Hosts:
    """Machines over one broker, sandbox and database; `settings` are those of all, and one has the receiver."""

    def __init__(self, folder: Path, broker: Broker, sandbox: Sandbox, database_url: str, **settings: object) -> None:
        port = free_port()
        self._folder, self._broker, self._sandbox = folder, broker, sandbox
        self._common: dict[str, Any] = {
            "database_url": database_url,
            "receiver_port": port,
            "public_url": f"http://127.0.0.1:{port}",
            "unchecked": {"submit_lease_seconds": 10},
            **settings,
        }
        self._closing = ExitStack()

    def add(self, name: str, parts: Sequence[str], **settings: object) -> Fleet:
        """One more machine, with these parts and settings of its own."""
        folder = self._folder / name
        folder.mkdir()
        added = Fleet(folder, self._sandbox, self._broker, parts=parts, **self._common, **settings)
        self._closing.callback(added.close)
        return added

    def close(self) -> None:
        self._closing.close()


def submitted_by(host: Fleet) -> int:
    """How many recordings this host's workers say they submitted since they were started last."""
    return host.said("pipeline").count("recording_submitted")
