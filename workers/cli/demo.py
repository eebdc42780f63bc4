"""`retroscribe demo`: the whole pipeline against a local stand-in for the API, in a temporary home, on free ports."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Annotated, Any, Final, Self

import typer

from config.queues import ROLES
from workers.cli.common import console, duration
from workers.errors import PartUnreachable

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
#: What callers talk about in the stand-in's transcripts.
QUERY: Final = '"the refund"'


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Trying out")(demo)


def demo(
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many recordings.")] = 300,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="The stand-in's limit, submissions a second.")] = 15.0,
    seed: Annotated[int, typer.Option(help="Which recordings and transcripts.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Shows what all processes log.")] = False,
) -> int:
    """Runs a sample backfill: real workers, a real Valkey, real HTTP with a real limit, webhooks and a search index.

    Exit code 0 when every usable recording is indexed and findable.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="retroscribe-demo-") as folder:
        manifest = Path(folder) / "sample.csv"
        environment = _environment(folder)
        stand_in = ["sandbox", "--port=0", f"--rate={rate}", f"--seed={seed}", f"--count={count}"]
        with _Process([*stand_in, f"--write-manifest={manifest}"], environment, verbose=verbose) as api:
            exported = dict(api.wait_for(r"export (GENESYS_\w+)=(\S+)") for _ in range(3))
            environment |= exported | _limits(rate)
            console.print(f"A stand-in for the API takes {rate:g} submissions/s at {exported['GENESYS_BASE_URL']}")
            with _Process(["up"], environment, verbose=verbose) as stack:
                stack.wait_for("(Retroscribe is ready)")
                console.print(
                    f"Valkey, {len(ROLES)} workers ({', '.join(ROLES)}), beat, receiver and Flower are up "
                    f"after {duration(time.monotonic() - started)}; {count} recordings go in:\n"
                )
                code = subprocess.call(_command("run", str(manifest)), env=environment, cwd=folder)  # noqa: S603
                status = _asked(["status", manifest.stem, "--json"], environment)
                found = _asked(["search", QUERY, "--size=3", "--json"], environment)
                _summary(status, _stats(exported["GENESYS_BASE_URL"]), found, rate)
                console.print(f"\n`retroscribe search '{QUERY}'`:")
                subprocess.call(_command("search", QUERY, "--size=3"), env=environment, cwd=folder)  # noqa: S603
    console.print(f"\nDone in {duration(time.monotonic() - started)}; nothing of it is left on this machine.")
    return code or int(status["active"] > 0 or found["total"] == 0)


def _summary(status: dict[str, Any], stats: dict[str, Any], found: dict[str, Any], rate: float) -> None:
    states = status["states"]
    ended = sum(states[state] for state in ("indexed", "rejected", "failed", "parked", "cancelled"))
    lost = status["requested"] - ended - status["duplicates"] - status["intake_rejects"]
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(status["rejected_reasons"].items()))
    twice = sum(1 for times in stats["accepted"].values() if times > 1)
    speed = status["submitted_per_second"] or 0.0
    console.print("\n[bold]What became of them[/bold]")
    console.print(f"  requested {status['requested']}, indexed {states['indexed']}, lost {lost}")
    console.print(f"  rejected  {states['rejected']} ({reasons})")
    console.print(f"  failed    {states['failed']}, parked {states['parked']}")
    console.print(f"  paid for  {len(stats['accepted'])} by the stand-in's own count, {twice} of them twice")
    console.print(f"  submitted {speed:.1f}/s from first to last, {speed / rate:.0%} of the limit of {rate:g}/s")
    console.print(f"  429s      {stats['rejected_429']} of {stats['submits']} submissions")
    console.print(f"  search    {found['total']} transcripts have {QUERY}")


class _Process:
    """One of our own commands, running while the block runs; keeps its last lines for when it fails."""

    def __init__(self, arguments: list[str], environment: dict[str, str], *, verbose: bool) -> None:
        self._name = arguments[0]
        self._verbose = verbose
        self._lines: deque[str] = deque(maxlen=2000)
        self._unread: deque[str] = deque(maxlen=2000)
        self._news = threading.Condition()
        self._process = subprocess.Popen(  # noqa: S603 our own command
            _command(*arguments),
            env=environment,
            cwd=Path(environment["RETROSCRIBE_HOME"]).parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait_for(self, pattern: str) -> Any:
        """The groups of the next line that matches; raises PartUnreachable when the command ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        with self._news:
            while True:
                while self._unread:
                    match = re.search(pattern, self._unread.popleft())
                    if match:
                        return match.groups()
                if not self._reader.is_alive() or not self._news.wait(max(0.0, deadline - time.monotonic())):
                    said = " | ".join(list(self._lines)[-5:])
                    raise PartUnreachable(f"`retroscribe {self._name}` did not start; its last lines: {said}")

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 it was asked for
        for line in self._process.stdout:
            if self._verbose:
                sys.stderr.write(line)
            with self._news:
                self._lines.append(line.rstrip())
                self._unread.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def _asked(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    folder = Path(environment["RETROSCRIBE_HOME"]).parent
    answer = subprocess.run(_command(*arguments), env=environment, cwd=folder, check=True, capture_output=True)  # noqa: S603
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def _stats(base_url: str) -> dict[str, Any]:
    from urllib.request import urlopen

    with urlopen(f"{base_url}/_sandbox/stats", timeout=10) as answer:  # noqa: S310 our own stand-in
        found: dict[str, Any] = json.load(answer)
        return found


def _limits(rate: float) -> dict[str, str]:
    """Our limits for a stand-in that gives media look-ups twice its rate."""
    limits = {"SUBMIT": rate, "MEDIA": rate * 2, "STATUS": rate}
    return {f"RETROSCRIBE_{name}_LIMIT": f"{limit}" for name, limit in limits.items()}


def _environment(folder: str) -> dict[str, str]:
    """This process's environment without settings of ours: nothing of a real deployment may be touched.

    For the same reason all commands run in the temporary folder, where there is no `.env`.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RETROSCRIBE_", "GENESYS_"))}
    ports = {f"RETROSCRIBE_{name}_PORT": f"{_free_port()}" for name in ("RECEIVER", "FLOWER", "METRICS")}
    return kept | ports | {"RETROSCRIBE_HOME": f"{folder}/home", "PYTHONUNBUFFERED": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "workers.cli.main", *arguments]
