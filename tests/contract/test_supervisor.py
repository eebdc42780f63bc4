"""The supervisor with real child processes: order, restarts, stopping, and what is left of them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from tests.support.eventually import eventually
from workers.errors import PartUnreachable
from workers.stack.supervisor import Child, Supervisor

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a parent death signal")

WAITS = "import os, signal; print('up', os.getpid(), flush=True); signal.pause()"
SAYS_BYE = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))
print('up', os.getpid(), flush=True)
while True: signal.pause()
"""
IGNORES_TERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS
HAS_A_CHILD = """
import os, signal, subprocess, sys
inner = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import signal; signal.pause()'])
print('inner', inner.pid, flush=True)
print('up', os.getpid(), flush=True)
signal.pause()
"""


def python(script: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", script]


def gone(pid: int) -> bool:
    """Whether the process runs no more; whoever adopted it may not have reaped it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Running:
    """A supervisor in a thread of its own."""

    def __init__(self, *children: Child) -> None:
        self.log: list[tuple[str, str]] = []
        self.stop = threading.Event()
        self.started = threading.Event()
        supervisor = Supervisor(children, lambda name, line: self.log.append((name, line)))
        self.thread = threading.Thread(target=supervisor.run, args=[self.stop, self.started.set])
        self.thread.start()

    def pid(self, name: str) -> int:
        """The process that the child told last, of those that said they are up."""
        return int(self.said(name, "up")[-1].split()[1])

    def names(self) -> set[str]:
        return {name for name, _ in list(self.log)}

    def said(self, name: str, part: str, times: int = 1) -> list[str]:
        def found() -> list[str]:
            lines = [line for who, line in list(self.log) if who == name and part in line]
            return lines if len(lines) >= times else []

        return eventually(found, what=f"{name} saying {part!r}")

    def place(self, name: str, part: str) -> int:
        return next(at for at, (who, line) in enumerate(self.log) if who == name and part in line)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    all_running: list[Running] = []

    def start(*children: Child) -> Running:
        all_running.append(Running(*children))
        return all_running[-1]

    yield start
    for running in all_running:
        running.end()


def test_a_stage_starts_when_all_of_the_one_before_is_ready(run: Callable[..., Running]) -> None:
    asked, ready = [0], threading.Event()

    def first_is_ready() -> bool:
        asked[0] += 1
        return ready.is_set()

    running = run(
        Child("second", python(WAITS), stage=1),
        Child("first", python(WAITS), ready=first_is_ready),
        Child("beside", python(WAITS)),
    )
    eventually(lambda: asked[0] > 3)
    eventually(lambda: running.names() == {"first", "beside"})
    assert not running.started.is_set()

    ready.set()

    assert running.started.wait(10)
    running.said("second", "up")


def test_both_outputs_are_handed_on_line_by_line_with_the_name(run: Callable[..., Running]) -> None:
    script = "import os; os.write(1, b'one ' + os.environb[b'EXTRA'] + b'\\n\\xff\\n'); os.write(2, b'two'); " + WAITS
    running = run(Child("talker", python(script), env={"EXTRA": "extra"}))
    up = running.said("talker", "up")
    assert running.log[:3] == [("talker", "one extra"), ("talker", "\ufffd"), ("talker", up[0])]
    assert up[0].startswith("twoup ")


def test_a_killed_child_is_started_again_and_the_log_says_so(run: Callable[..., Running]) -> None:
    running = run(Child("worker", python(WAITS)), Child("other", python(WAITS)))
    running.said("worker", "up")
    before, other = running.pid("worker"), running.pid("other")

    os.kill(before, signal.SIGKILL)

    running.said("worker", "up", times=2)
    assert running.pid("worker") != before
    assert running.pid("other") == other
    (line,) = running.said("worker", "ended")
    assert line.startswith("ended by signal 9 (Killed) after ")
    assert line.endswith(" s; starting it again in 0.5 s")


def test_a_child_that_keeps_ending_is_started_less_and_less_often(run: Callable[..., Running]) -> None:
    running = run(Child("worker", python("raise SystemExit(3)")))
    lines = running.said("worker", "ended with exit status 3", times=3)
    assert [line.rpartition(" in ")[2] for line in lines[:3]] == ["0.5 s", "1 s", "2 s"]


@linux_only
def test_what_a_dead_child_had_started_dies_with_it(run: Callable[..., Running]) -> None:
    running = run(Child("worker", python(HAS_A_CHILD)))
    inner = int(running.said("worker", "inner")[0].split()[1])

    os.kill(running.pid("worker"), signal.SIGKILL)

    running.said("worker", "inner", times=2)
    eventually(lambda: gone(inner))


def test_stages_are_stopped_in_reverse_and_nothing_is_left(run: Callable[..., Running]) -> None:
    running = run(
        Child("server", python(SAYS_BYE), stage=0),
        Child("worker", python(SAYS_BYE), stage=1),
        Child("beat", python(SAYS_BYE), stage=1),
    )
    pids = [running.pid(name) for name in ("server", "worker", "beat")]

    running.end()

    for name in ("worker", "beat"):
        assert running.place(name, "stopped: ended with exit status 0") < running.place("server", "bye")
    assert running.place("server", "bye") < running.place("server", "stopped: ended with exit status 0")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)  # a zombie would still take it


def test_a_child_that_ignores_the_stop_signal_is_killed(run: Callable[..., Running]) -> None:
    running = run(Child("stubborn", python(IGNORES_TERM), stop_seconds=0.3), Child("meek", python(SAYS_BYE)))
    running.said("stubborn", "up")
    running.said("meek", "up")

    began = monotonic()
    running.end()

    assert monotonic() - began < 5
    assert running.said("stubborn", "stopped") == ["stopped: ended by signal 9 (Killed)"]
    assert running.said("meek", "stopped") == ["stopped: ended with exit status 0"]


def test_a_hanging_stage_leaves_time_to_those_still_to_stop(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.stack.supervisor.STOP_SECONDS", 1.5)
    running = run(Child("server", python(SAYS_BYE)), Child("worker", python(IGNORES_TERM), stage=1, stop_seconds=25))
    running.said("worker", "up")
    running.said("server", "up")

    running.end()

    assert running.said("worker", "stopped") == ["stopped: ended by signal 9 (Killed)"]
    assert running.said("server", "stopped") == ["stopped: ended with exit status 0"]


def test_a_stop_during_the_start_stops_what_has_begun(run: Callable[..., Running]) -> None:
    running = run(Child("first", python(SAYS_BYE), ready=lambda: False), Child("second", python(WAITS), stage=1))
    running.said("first", "up")

    running.end()

    assert {name for name, _ in running.log} == {"first"}
    assert running.said("first", "stopped")
    assert not running.started.is_set()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (python("print('no such table'); raise SystemExit(3)"), "its last lines: no such table | no such table"),
        (["/nowhere/valkey"], "its last lines: /nowhere/valkey can't be started: No such file or directory"),
    ],
)
def test_a_child_that_never_becomes_ready_ends_the_start_with_its_last_lines(argv: list[str], says: str) -> None:
    log: list[tuple[str, str]] = []
    children = [Child("server", python(WAITS)), Child("broken", argv, ready=lambda: False, stage=1)]
    supervisor = Supervisor(children, lambda name, line: log.append((name, line)))
    with pytest.raises(PartUnreachable) as caught:
        supervisor.run(threading.Event())
    assert str(caught.value).startswith("broken can't be started: it ended 3 times before it was ready; ")
    assert says in str(caught.value)
    assert log[-1][0] == "server"
    assert log[-1][1].startswith("stopped")


def test_a_child_that_is_not_ready_in_time_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.stack.supervisor.READY_SECONDS", 0.3)
    child = Child("slow", python(WAITS), ready=lambda: False)
    with pytest.raises(PartUnreachable, match=r"^slow can't be started: it took over 0\.3 s to be ready; "):
        Supervisor([child], lambda _name, _line: None).run(threading.Event())


def test_a_log_that_fails_holds_up_no_child() -> None:
    seen: list[str] = []

    def log(_name: str, line: str) -> None:
        seen.append(line)
        raise BrokenPipeError

    stop = threading.Event()
    chatty = "print('x' * 1000 + '\\n', flush=True); " * 200 + WAITS
    thread = threading.Thread(target=Supervisor([Child("chatty", python(chatty))], log).run, args=[stop])
    thread.start()
    try:
        eventually(lambda: seen and seen[-1].startswith("up "))
    finally:
        stop.set()
        thread.join(30)


@linux_only
def test_children_die_with_a_supervisor_that_is_killed() -> None:
    script = f"""
import sys, threading
from workers.stack.supervisor import Child, Supervisor
child = Child("stubborn", [sys.executable, "-I", "-S", "-c", {IGNORES_TERM!r}])
Supervisor([child], lambda name, line: print(line, flush=True)).run(threading.Event())
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        word, pid = parent.stdout.readline().split()
        assert word == "up"
        assert not gone(int(pid))
    finally:
        parent.kill()
        parent.communicate()
    try:
        eventually(lambda: gone(int(pid)), timeout=10)
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
