"""Starts child processes in stages, starts them again when they die, and stops them in reverse order."""

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired
from threading import Event, Thread
from time import monotonic
from typing import Final, TextIO

from workers.errors import PartUnreachable
from workers.stack import leash

TICK_SECONDS: Final = 0.05
READY_SECONDS: Final = 60.0  # the end of a child that lived that long counts as its first again
DELAYS_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
STOP_SECONDS: Final = 27.0  # an orchestrator sends SIGKILL 30 s after SIGTERM


@dataclass
class Child:
    """A process to run; `env` comes on top of this one's; `ready` is asked often, must answer soon and not raise.

    Children of a stage (0, 1, ...) start together, once all of the stages before are ready.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    stage: int = 0
    stop_seconds: float = 10.0
    _ends: int = field(default=0, init=False)
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=5), init=False)

    def start(self, log: Callable[[str, str], None]) -> None:
        """Starts its process, which dies with this thread on Linux."""
        command = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *self.argv]
        env = {**os.environ, **self.env}
        self._started = self._due = monotonic()
        self.process = Popen(  # noqa: S603 our own command lines
            command, env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, errors="replace", start_new_session=True
        )
        self._reader = Thread(target=self._read, args=[self.process.stdout, log], daemon=True)
        self._reader.start()

    def tend(self, log: Callable[[str, str], None]) -> None:
        """Notices that it ended, and starts it again when that is due."""
        if self.process.returncode is None and self.process.poll() is not None:
            alive = monotonic() - self._started
            self._ends = 1 if alive >= READY_SECONDS else self._ends + 1
            delay = DELAYS_SECONDS[min(self._ends, len(DELAYS_SECONDS)) - 1]
            self._due = monotonic() + delay
            log(self.name, f"{self.end()} after {alive:.1f} s; starting it again in {delay:g} s")
        elif self.process.returncode is not None and monotonic() >= self._due:
            self.start(log)

    def is_ready(self) -> bool:
        """Whether it is; raises PartUnreachable when it ended too often, or takes too long."""
        if self._ends < 3 and monotonic() - self._started < READY_SECONDS:
            return self.process.returncode is None and (self.ready is None or self.ready())
        why = "ended 3 times before it was" if self._ends >= 3 else f"took over {READY_SECONDS:g} s to be"
        said = " | ".join(self._tail) or "nothing"
        raise PartUnreachable(f"{self.name} can't be started: it {why} ready; its last lines: {said}")

    def end(self, seconds: float = 0.0) -> str:
        """Waits that long for its end, kills what is left of its process group, and says how it ended."""
        with suppress(TimeoutExpired):
            self.process.wait(seconds)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self._reader.join(timeout=1.0)
        return f"ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with exit status {code}"

    def _read(self, output: TextIO, log: Callable[[str, str], None]) -> None:
        with output:
            for line in output:
                self._tail.append(line.rstrip("\n"))
                log(self.name, self._tail[-1])


class Supervisor:
    """Runs the children; `log(name, line)`, from several threads, gets what they print and what becomes of each."""

    def __init__(self, children: Sequence[Child], log: Callable[[str, str], None]) -> None:
        self._children = sorted(children, key=lambda child: child.stage)
        self._log = log

    def run(self, stop: Event, started: Callable[[], None] | None = None) -> None:
        """Runs until `stop` is set, then stops all within 28 s; calls `started` once all are ready.

        Raises PartUnreachable, after stopping all, when a child can't be started. On Linux they die with this thread.
        """
        begun: list[Child] = []
        try:
            for _, stage in groupby(self._children, key=lambda child: child.stage):
                waiting = [] if stop.is_set() else list(stage)
                for child in waiting:
                    child.start(self._say)
                    begun.append(child)
                while waiting and not stop.wait(TICK_SECONDS):
                    for child in begun:
                        child.tend(self._say)
                    waiting = [child for child in waiting if not child.is_ready()]
            if started and not stop.is_set():
                started()
            while not stop.wait(TICK_SECONDS):
                for child in begun:
                    child.tend(self._say)
        finally:
            self._stop(begun, monotonic() + STOP_SECONDS)

    def _stop(self, begun: list[Child], end: float) -> None:
        for stage, children in groupby(reversed(begun), key=lambda child: child.stage):
            running = [child for child in children if child.process.returncode is None]
            for child in running:
                child.process.terminate()
            for child in running:  # a stage that hangs leaves a second to each that is still to stop
                self._say(child.name, f"stopped: {child.end(min(child.stop_seconds, end - stage - monotonic()))}")

    def _say(self, name: str, line: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that is gone must not end the reading: that halts the child
            self._log(name, line)
