"""The processes of one run: started, watched, and ended with it, whatever happens."""

import os
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from workers.stack.supervisor import Child

HOUSE: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 8.0
#: Only this code, and no setting of a real deployment.
ENVIRONMENT: Final = {"PYTHONPATH": str(HOUSE), "PYTHONUNBUFFERED": "1"}


class BenchmarkFailed(Exception):
    """A run could not be measured; the sentence says why."""


class Stage:
    """Holds a run's processes in the folder; on Linux they die with the thread that started them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[Child] = []
        self._said: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=10))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The sandbox and the broker came first and go last.
        for child in reversed(self._children):
            child.process.terminate()
        for child in reversed(self._children):
            child.end(STOP_SECONDS)

    def start(self, child: Child) -> None:
        """Starts one more process."""
        child.env = {**ENVIRONMENT, **child.env}
        child.start(lambda name, line: self._said[name].append(line))
        self._children.append(child)

    def python(self, name: str, *arguments: str, env: Mapping[str, str]) -> None:
        """Starts a module of Python."""
        self.start(Child(name, [sys.executable, "-m", *arguments], env))

    def call(self, *arguments: str, env: Mapping[str, str]) -> None:
        """Runs a module of Python to its end; raises BenchmarkFailed unless that went well."""
        command = [sys.executable, "-m", *arguments]
        ended = subprocess.run(
            command, env={**os.environ, **ENVIRONMENT, **env}, capture_output=True, text=True, timeout=300, check=False
        )
        if ended.returncode:
            raise BenchmarkFailed(f"{' '.join(arguments)} failed: {ended.stderr[-500:]}")

    def said(self, name: str) -> Sequence[str]:
        """The last lines that a process printed."""
        return tuple(self._said[name])

    def resident_mb(self, name: str) -> float:
        """The memory that a process holds, in MB (Linux only)."""
        child = next(one for one in self._children if one.name == name)
        pages = int(Path(f"/proc/{child.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_seconds(self, name: str) -> float:
        """The processor time that a process has taken so far (Linux only)."""
        child = next(one for one in self._children if one.name == name)
        fields = Path(f"/proc/{child.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self, name: str) -> float:
        """The most memory that a process has held, in MB (Linux only)."""
        child = next(one for one in self._children if one.name == name)
        lines = Path(f"/proc/{child.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Returns once it holds; raises BenchmarkFailed when that takes too long or a process ended meanwhile."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"{what} took over {START_SECONDS:g} s.")
            time.sleep(0.05)

    def check(self) -> None:
        """Raises BenchmarkFailed when a process has ended."""
        for child in self._children:
            if child.process.poll() is not None:
                said = " | ".join(self.said(child.name)) or "nothing"
                raise BenchmarkFailed(f"{child.name} {child.end()}; its last lines: {said}")
