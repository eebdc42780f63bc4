"""The real command in a process of its own, in an environment without settings but those that a test names."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]
SETTINGS = ("RETROSCRIBE_", "GENESYS_")


def bare_environment(**settings: str) -> dict[str, str]:
    """This process's environment without settings of ours, and these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return kept | {"PYTHONPATH": str(HOUSE), "PYTHONUNBUFFERED": "1"} | settings


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "workers.cli.main", *arguments]


def run_command(*arguments: str, folder: Path, stdin: str = "", **settings: str) -> "subprocess.CompletedProcess[str]":
    """Runs it in the folder to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=bare_environment(**settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def running_command(*arguments: str, folder: Path, log: Path, **settings: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Runs it in the folder while the block runs; what it writes goes to the file `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command(*arguments), cwd=folder, env=bare_environment(**settings), stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)
