"""Starts child processes in stages, starts them again when they die, and stops them in reverse order."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

from workers.stack.child import Child, Part

TICK_SECONDS: Final = 0.05
# An orchestrator sends SIGKILL 30 s after SIGTERM. A stage that hangs leaves a second to each that is still to stop.
STOP_SECONDS: Final = 27.0
STAGE_SECONDS: Final = 1.0


class Supervisor:
    """Runs the children; `log(name, line)` gets each line they print, and what becomes of them, one call at a time."""

    def __init__(self, children: Sequence[Child], log: Callable[[str, str], None]) -> None:
        lock = threading.Lock()

        def say(name: str, line: str) -> None:
            # A terminal that is gone must not end the reading: a child whose output nobody reads comes to a halt.
            with lock, suppress(OSError, ValueError):
                log(name, line)

        self._parts = [Part(child, say) for child in children]
        self._stages = sorted({child.stage for child in children})
        self._begun: list[Part] = []

    def pids(self) -> dict[str, int]:
        """The process ids of the children that run now."""
        return {part.child.name: process.pid for part in self._begun if (process := part.process)}

    def run(self, stop: threading.Event, started: Callable[[], None] | None = None) -> None:
        """Runs until `stop` is set, then stops all within 28 s; calls `started` once all are ready.

        Raises PartUnreachable, after stopping the others, when a child ends three times before it is ready or is not
        ready in time. On Linux the children die with the thread that called this, however it ends.
        """
        try:
            for stage in self._stages:
                self._start(stage, stop)
            if started and not stop.is_set():
                started()
            while not stop.wait(TICK_SECONDS):
                self._tend()
        finally:
            self._stop()

    def _start(self, stage: int, stop: threading.Event) -> None:
        """Starts a stage and returns when all of it is ready, or `stop` is set."""
        if stop.is_set():
            return
        waiting = [part for part in self._parts if part.child.stage == stage]
        for part in waiting:
            self._begun.append(part)
            part.begin()
        while waiting := [part for part in waiting if not part.became_ready()]:
            if stop.wait(TICK_SECONDS):
                return
            self._tend()

    def _tend(self) -> None:
        for part in self._begun:
            part.tend()

    def _stop(self) -> None:
        end = monotonic() + STOP_SECONDS
        for later, stage in reversed(list(enumerate(self._stages))):
            parts = [part for part in self._begun if part.child.stage == stage]
            for part in parts:
                part.ask_to_stop()
            asked = monotonic()
            for part in sorted(parts, key=lambda part: part.child.stop_seconds):
                part.finish(min(asked + part.child.stop_seconds, end - later * STAGE_SECONDS))
