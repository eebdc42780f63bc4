"""One child process: its output, its death, its next start."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

from workers.errors import PartUnreachable

FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 10.0
STEADY_SECONDS: Final = 30.0
STARTS: Final = 3
MAX_LINE_BYTES: Final = 65_536
_LEASH: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py")))


@dataclass(frozen=True, slots=True)
class Child:
    """What to run: `env` comes on top of this process's; `ready` is asked often, must answer soon and not raise.

    Children of a stage start together, once all of the stages before are ready.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    stage: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    ready_seconds: float = 60.0


class Part:
    """A child's present process, or the moment of its next start; `process` is None while there is none."""

    def __init__(self, child: Child, log: Callable[[str, str], None]) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | None = None
        self._log = log
        self._ready = False
        self._ends = 0
        self._first_start = self._last_start = self._next_start = monotonic()
        self._delay = FIRST_DELAY_SECONDS
        self._tail: deque[str] = deque(maxlen=5)
        self._reader: threading.Thread | None = None

    def begin(self) -> None:
        """Starts it for the first time; its time to become ready runs from now."""
        self._first_start = monotonic()
        self._start()

    def tend(self) -> None:
        """Notices that it died, and starts it again when its delay is over."""
        if self.process is None:
            if monotonic() >= self._next_start:
                self._start()
        elif self.process.poll() is not None:
            alive = monotonic() - self._last_start
            self._start_later(f"{self._bury(self.process)} after {alive:.1f} s", steady=alive >= STEADY_SECONDS)

    def became_ready(self) -> bool:
        """Whether it ever was ready; raises PartUnreachable when it died too often before, or its time is up."""
        if self.process and (self._ready or self.child.ready is None or self.child.ready()):
            self._ready = True
        if not self._ready and self._ends >= STARTS:
            raise self._failed(f"it ended {self._ends} times before it was ready")
        if not self._ready and monotonic() - self._first_start > self.child.ready_seconds:
            raise self._failed(f"it was not ready within {self.child.ready_seconds:g} s")
        return self._ready

    def ask_to_stop(self) -> None:
        if self.process:
            self.process.send_signal(self.child.stop_signal)

    def finish(self, deadline: float) -> None:
        """Waits for its end, and makes an end of it at the deadline (monotonic seconds)."""
        if not self.process:
            return
        try:
            self.process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            self._log(self.child.name, "did not stop in time, killing it")
        self._log(self.child.name, f"stopped: {self._bury(self.process)}")

    def _start(self) -> None:
        self._last_start = monotonic()
        try:
            self.process = subprocess.Popen(  # noqa: S603 our own command lines
                [*_LEASH, str(os.getpid()), *self.child.argv],
                env={**os.environ, **self.child.env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._start_later(f"can't be started ({error.strerror})", steady=False)
            return
        self._reader = threading.Thread(
            target=self._read, args=[self.process], name=f"read-{self.child.name}", daemon=True
        )
        self._reader.start()

    def _start_later(self, what: str, *, steady: bool) -> None:
        self._ends += 1
        if steady:
            self._delay = FIRST_DELAY_SECONDS
        self._log(self.child.name, f"{what}; starting it again in {self._delay:g} s")
        self._next_start = monotonic() + self._delay
        self._delay = min(self._delay * 2, LONGEST_DELAY_SECONDS)

    def _bury(self, process: subprocess.Popen[bytes]) -> str:
        """Kills what is left of its process group, hands on its last lines, and says how it ended."""
        # What it started may hold its port or its files; it is gone from the group only when it made its own.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        if self._reader:
            self._reader.join(timeout=1.0)
        self.process = None
        return f"ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with exit status {code}"

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 for the type checker
        with process.stdout as output:
            for data in iter(lambda: output.readline(MAX_LINE_BYTES), b""):
                line = data.decode(errors="replace").rstrip("\r\n")
                self._tail.append(line)
                self._log(self.child.name, line)

    def _failed(self, why: str) -> PartUnreachable:
        said = " | ".join(self._tail) or "nothing"
        return PartUnreachable(f"{self.child.name} can't be started: {why}; its last lines: {said}")
