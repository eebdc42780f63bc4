"""`retroscribe up`: the embedded stack in one command."""

import signal
import sys
import threading
from typing import Any

import typer

from config.logging import configure_logging
from config.settings import load_settings
from workers.cli.common import console


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(up)


def up() -> None:
    """Starts everything on this machine: Valkey unless a URL is set, workers, beat, receiver and Flower."""
    settings = load_settings()
    configure_logging(settings.log_format)
    from workers.stack.stack import run_stack

    console.print(f"Starting Retroscribe in {settings.home} ...", soft_wrap=True, markup=False)
    run_stack(settings, stop_on_signals(), print_prefixed, _ready)
    console.print("Stopped.")


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C does not cut a clean stop short."""
    stop = threading.Event()

    def ask(*_: Any) -> None:
        if not stop.is_set():
            sys.stderr.write("Stopping: calls under way are finished first ...\n")
        stop.set()

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    return stop


def print_prefixed(name: str, line: str) -> None:
    """A child's line, with its name before it."""
    sys.stderr.write(f"{name:>9} | {line}\n")
    sys.stderr.flush()


def _ready(lines: list[str]) -> None:
    console.print("\n[bold green]Retroscribe is ready.[/bold green]")
    for line in lines:
        console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print("  next      retroscribe run FILE.csv   in a second terminal; Ctrl-C stops all\n")
