"""A broker that becomes everything a broker may become."""

import signal

from tests.support.valkey import Valkey


class Broker(Valkey):
    """A Valkey that also crashes, freezes and forgets."""

    def start(self) -> "Broker":
        """Returns once it answers, empty if it did not run."""
        if self.process is None:
            super().start()
        return self

    def kill(self) -> None:
        """Ends it at once; its socket's file stays."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Leaves its connections open, and nothing answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def wipe(self) -> None:
        with self.client() as client:
            client.flushall()

    def _send(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
