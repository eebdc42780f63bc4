"""A real RabbitMQ server on loopback, for tests: starts within seconds, also as root, with its own `epmd`."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from amqp.exceptions import AMQPError
from kombu import Connection

from tests.conftest import free_port
from tests.support.eventually import eventually

#: Debian's command of this name changes to the service's user and folder; this one does not.
PROGRAM: Final = next(
    filter(None, map(shutil.which, ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"))), None
)
needs_rabbitmq = pytest.mark.skipif(
    PROGRAM is None or shutil.which("epmd") is None,
    reason="There is no rabbitmq-server on this machine: install it (Debian: apt-get install rabbitmq-server).",
)


class Rabbitmq:
    """One server; `start` after `kill` brings it back, with its queues and messages, at the same `url`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self._log = self._folder / "log"
        self._port, self._names_port, self._cluster_port = free_port(), free_port(), free_port()
        self._names: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._configure()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}"

    def start(self) -> "Rabbitmq":
        """Returns once the server answers; does nothing when it runs."""
        if self._server is None:
            with self._log.open("ab") as log:
                options: dict[str, Any] = {"env": self._environment(), "stdin": subprocess.DEVNULL, "stdout": log}
                if self._names is None:  # Erlang's register of servers: left to itself, it would outlive the test
                    names = ["epmd", "-port", str(self._names_port), "-address", "127.0.0.1"]
                    self._names = subprocess.Popen(names, stderr=log, **options)
                self._server = subprocess.Popen([str(PROGRAM)], stderr=log, **options)
            eventually(self._answers, 90, "the RabbitMQ server")
        return self

    def kill(self) -> None:
        """Kills every process of it, as a power cut would."""
        if self._server is not None:
            script = psutil.Process(self._server.pid)
            for process in (*script.children(recursive=True), script):
                process.kill()
            self._server.wait()
            self._server = None

    def freeze(self) -> None:
        """Leaves its connections open, and nothing answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def close(self) -> None:
        """Ends it for good and removes everything."""
        self.kill()
        if self._names is not None:
            self._names.kill()
            self._names.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def connection(self) -> Connection:
        return Connection(self.url)

    def messages(self, queue: str) -> int:
        """How many wait in it."""
        with self.connection() as connection:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)

    def bodies(self, queue: str) -> list[str]:
        """What the messages that wait in it say; they stay there."""
        with self.connection() as connection:
            channel = connection.default_channel
            found = list(iter(lambda: channel.basic_get(queue), None))
            return [one.body if isinstance(one.body, str) else bytes(one.body).decode() for one in found]

    def _send(self, number: signal.Signals) -> None:
        if self._server is not None:
            for process in psutil.Process(self._server.pid).children(recursive=True):
                process.send_signal(number)

    def _configure(self) -> None:
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self._port}",
            "log.file = false",
            "log.console = true",
            "disk_free_limit.absolute = 10MB",
        ]
        (self._folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self._folder / "nothing").touch()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        ours = {
            "NODENAME": f"test{self._port}@localhost",
            "CONF_ENV_FILE": self._folder / "nothing",
            "CONFIG_FILE": self._folder / "rabbitmq.conf",
            "MNESIA_BASE": self._folder / "mnesia",
            "LOG_BASE": self._folder,
            "GENERATED_CONFIG_DIR": self._folder / "generated",
            "ENABLED_PLUGINS_FILE": self._folder / "plugins",
            "PID_FILE": self._folder / "pid",
            "DIST_PORT": self._cluster_port,
            "SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}",
        }
        return (
            kept
            | {"HOME": str(self._folder), "ERL_EPMD_PORT": str(self._names_port), "ERL_EPMD_ADDRESS": "127.0.0.1"}
            | {f"RABBITMQ_{name}": str(value) for name, value in ours.items()}
        )

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self._log.read_text()[-3000:]
        try:
            with self.connection() as connection:
                connection.connect()
        except (OSError, AMQPError):
            return False
        return True
