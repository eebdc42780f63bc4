"""Sends events to the receiver, over SQLite and PostgreSQL, and to an app that only answers 202."""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.deployment import deployment
from benchmarks.limiter.stage import ENVIRONMENT, BenchmarkFailed, Stage

LEDGERS: Final = ("sqlite", "postgresql")
RATE: Final = 300
EVENTS: Final = 20_000
SMALL: Final = 10_000
LARGE: Final = 1_000_000
#: Settings that only a process of `benchmarks.receiver` reads.
ALONE: Final = {"BENCH_TOGETHER": "1"}

Figures = Mapping[str, Any]
SETTINGS: Final = {"RETROSCRIBE_WEBHOOK_SECRETS": "a secret of the benchmark", "RETROSCRIBE_METRICS_PORT": "0"}


@dataclass(frozen=True)
class Load:
    """`rate` 0: as fast as answers come."""

    name: str
    size: int
    connections: int
    rate: int
    seconds: int


LOADS: Final = (
    Load("10 kB, 300/s", SMALL, 64, RATE, 6),
    Load("10 kB, most", SMALL, 64, 0, 2),
    Load("1 MB, 5/s", LARGE, 8, 5, 3),
    Load("1 MB, most", LARGE, 4, 0, 3),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--only", choices=LEDGERS, help="one kind of ledger; default: both")


def run(options: argparse.Namespace) -> int:
    """Loads each server in turn and prints one table; gives the exit code."""
    print(f"{'':34} {'events/s':>9} {'ratio':>6} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    with tempfile.TemporaryDirectory(prefix="retroscribe-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL may have to run as somebody else
        kinds = [options.only] if options.only else list(LEDGERS)
        bare: dict[str, Figures] = {}
        for kind in kinds:
            with deployment(folder / kind, kind, SETTINGS) as (stage, settings):
                events = folder / kind / "events"
                stage.call("benchmarks.receiver.accepted", str(EVENTS), str(events), env=settings)
                if not bare:
                    with _bare(folder) as port:
                        bare = _loaded("bare app", port, events, {})
                with _receiver(folder, settings) as port:
                    _loaded(f"receiver, {kind}", port, events, bare)
                with _receiver(folder, {**settings, **ALONE}) as port:
                    _loaded(f"receiver, {kind}, one by one", port, events, bare, LOADS[:1], 1)
    return 0


def _loaded(
    name: str, port: int, events: Path, bare: Mapping[str, Figures], loads: tuple[Load, ...] = LOADS, part: int = 0
) -> dict[str, Figures]:
    """What came of each load; `part` is the half of the events that is used, for each counts once only."""
    found: dict[str, Figures] = {}
    first = part * EVENTS // 2
    for load in loads:
        figures = _child(port, events, first if bare else -1, load)
        first += sum(figures["answers"].values())
        if set(figures["answers"]) - {"200", "202"}:
            raise BenchmarkFailed(f"{name} answered {figures['answers']}.")
        ratio = figures["rate"] / bare[load.name]["rate"] if bare else 1.0
        times = " ".join(f"{figures[key]:>8.1f}" for key in ("p50", "p99", "most"))
        print(f"{f'{name}, {load.name}':34} {figures['rate']:>9.0f} {ratio:>6.2f} {times}", flush=True)
        found[load.name] = figures
    return found


def _child(port: int, events: Path, first: int, load: Load) -> dict[str, Any]:
    arguments = (port, events, first, load.size, load.seconds, load.connections, load.rate)
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.receiver.load", *map(str, arguments)],
        env={**os.environ, **ENVIRONMENT},
        cwd=events.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if ended.returncode:
        raise BenchmarkFailed(f"The load {load.name} failed: {ended.stderr[-800:]}")
    figures: dict[str, Any] = json.loads(ended.stdout)
    return figures


@contextmanager
def _bare(folder: Path) -> Iterator[int]:
    """The port of the app that only answers."""
    port = _free_port()
    options = (f"--port={port}", "--http=h11", "--loop=asyncio", "--no-access-log", "--log-level=warning")
    with Stage(folder) as stage:
        stage.python("bare", "uvicorn", "benchmarks.receiver.bare:app", *options, env={})
        stage.wait_for(lambda: _answers(port), "The start of the bare app")
        yield port


@contextmanager
def _receiver(folder: Path, settings: Mapping[str, str]) -> Iterator[int]:
    """The port of a receiver, which ends with the block: what it still has to send would slow the next one."""
    port = _free_port()
    with Stage(folder) as stage:
        stage.python("receiver", "benchmarks.receiver", env={**settings, "RETROSCRIBE_RECEIVER_PORT": f"{port}"})
        stage.wait_for(lambda: _answers(port), "The start of the receiver")
        yield port


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
