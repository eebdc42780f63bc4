"""`retroscribe demo`: the whole pipeline against a local stand-in for the API, in a temporary home, on free ports."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from workers.cli.common import console, duration
from workers.errors import PartUnreachable

#: The stand-in has to take a submission a moment later than its neighbour's answer, so its share is never quite 1.
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(rich_help_panel="Trying out")(demo)


def demo(
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many recordings.")] = 300,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="The stand-in's limit, submissions a second.")] = 25.0,
    seed: Annotated[int, typer.Option(help="Which recordings and transcripts.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Shows what all processes log.")] = False,  # noqa: FBT002
) -> int:
    """Runs a sample backfill: real workers, a real Valkey, real HTTP with a real limit, webhooks and a search index."""
    with tempfile.TemporaryDirectory(prefix="retroscribe-demo-") as folder:
        started = time.monotonic()
        log = Path(folder) / "demo.log"
        manifest = Path(folder) / "sample.csv"
        sandbox = ["sandbox", "--port", "0", "--rate", f"{rate}", "--seed", f"{seed}", "--count", f"{count}"]
        with (
            _Process([*sandbox, "--write-manifest", str(manifest)], _environment(folder), log, verbose=verbose) as api,
        ):
            environment = _environment(folder) | _limits(rate) | api.exports()
            console.print(
                f"A stand-in for the API listens at {environment['GENESYS_BASE_URL']}, {rate:g} submissions/s"
            )
            with _Process(["up"], environment, log, verbose=verbose) as stack:
                stack.wait_for("is ready")
                console.print(
                    f"Valkey, 4 workers, beat, receiver and Flower run ({duration(time.monotonic() - started)})"
                )
                return _backfill(manifest, environment, started)


def _backfill(manifest: Path, environment: dict[str, str], started: float) -> int:
    # The commands are run as a person would: each a process of its own, with nothing but its environment.
    code = subprocess.call(_command("run", str(manifest)), env=environment, cwd=manifest.parent)  # noqa: S603
    del started
    return code


class _Process:
    """One of our own commands, running while the block runs; its output goes to the log."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path, *, verbose: bool) -> None:
        self._arguments = arguments
        self._environment = environment


def _limits(rate: float) -> dict[str, str]:
    """Our limits for a stand-in that gives media look-ups twice its rate."""
    limits = {"SUBMIT": rate, "MEDIA": rate * 2, "STATUS": rate}
    return {f"RETROSCRIBE_{name}_LIMIT": f"{limit}" for name, limit in limits.items()}


def _environment(folder: str) -> dict[str, str]:
    """This process's environment without settings of ours, for nothing of a real deployment may be touched."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RETROSCRIBE_", "GENESYS_"))}
    ports = {name: str(_free_port()) for name in ("RETROSCRIBE_RECEIVER_PORT", "RETROSCRIBE_FLOWER_PORT")}
    return kept | ports | {"RETROSCRIBE_HOME": f"{folder}/home"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "workers.cli.main", *arguments]
