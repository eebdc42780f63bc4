"""Takes recordings in from CSV and from messages, into SQLite and PostgreSQL, and looks at what their waiting costs."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.deployment import deployment
from benchmarks.limiter.stage import ENVIRONMENT, BenchmarkFailed

LEDGERS: Final = ("sqlite", "postgresql")
#: The API is never called. It lies on loopback, so results may come by webhook, and the pump hands out.
SETTINGS: Final = {
    "GENESYS_BASE_URL": "http://127.0.0.1:9",
    "GENESYS_CLIENT_ID": "bench",
    "GENESYS_CLIENT_SECRET": "bench",
    "RETROSCRIBE_WEBHOOK_SECRETS": "a secret of the benchmark",
}
FAST: Final = {"RETROSCRIBE_SUBMIT_LIMIT": "1000"}
LONGEST_SECONDS: Final = 1800

Figures = Mapping[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--rows", type=int, default=100_000, metavar="N", help="how many; default %(default)s")
    parser.add_argument("--only", choices=LEDGERS, help="one kind of ledger; default: both")


def run(options: argparse.Namespace) -> int:
    """Measures each way in a process and a deployment of its own, and prints one table; gives the exit code."""
    with tempfile.TemporaryDirectory(prefix="retroscribe-bench-") as folder:
        _measure(Path(folder), options.rows, [options.only] if options.only else LEDGERS)
    return 0


def _measure(folder: Path, rows: int, ledgers: list[str] | tuple[str, ...]) -> None:
    folder.chmod(0o755)  # PostgreSQL may have to run as somebody else
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8") as file:
        file.write("media_id,languages\n")
        file.writelines(f"{uuid.uuid4()},en-US;es-US\n" for _ in range(rows))
    print(f"{f'intake of {rows:,} rows':44} {'rows/s':>9} {'ratio':>6} {'peak MB':>8} {'bytes/recording':>16}")
    plain = _child("plain", manifest, SETTINGS)
    _line("csv.DictReader, nothing checked", plain, plain)
    _line("our reader, every row checked", _child("read", manifest, SETTINGS), plain)
    waiting: list[str] = []
    for kind in ledgers:
        with deployment(folder / f"{kind}-csv", kind, SETTINGS) as (_, settings):
            _line(f"CSV into {kind}", _counted(_child("take_csv", manifest, settings), rows), plain)
            waiting.append(_waiting(kind, manifest, settings))
        with deployment(folder / f"{kind}-messages", kind, SETTINGS) as (_, settings):
            _line(f"messages into {kind}", _counted(_child("take_messages", manifest, settings), rows), plain)
        with deployment(folder / f"{kind}-worker", kind, SETTINGS) as (stage, settings):
            stage.python("index", "workers.cli.main", "worker", "--role", "index", env=settings)
            sent = _counted(_child("send_messages", manifest, settings), rows)
            _line(f"messages by a worker into {kind}", {**sent, "peak_mb": stage.peak_mb("index")}, plain)
    print(f"\n{f'while {rows:,} wait':44} {'pump, recordings/s':>19} {'status, s':>10} {'broker MB':>10}")
    print("\n".join(waiting))


def _waiting(kind: str, manifest: Path, settings: Mapping[str, str]) -> str:
    looked = _child("look", manifest, settings)
    pumped = _child("hand_out", manifest, {**settings, **FAST})
    speed = pumped["handed_out"] / pumped["seconds"]
    return f"{kind:44} {speed:>19,.0f} {looked['status_seconds']:>10.2f} {looked['broker_mb']:>10.1f}"


def _child(way: str, manifest: Path, settings: Mapping[str, str]) -> Figures:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.intake.child", way, str(manifest)],
        env={**os.environ, **ENVIRONMENT, **settings},
        cwd=manifest.parent,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    if ended.returncode:
        raise BenchmarkFailed(f"{way} failed: {ended.stderr[-800:]}")
    figures: Figures = json.loads(ended.stdout)
    return figures


def _counted(figures: Figures, rows: int) -> Figures:
    if figures["rows"] != rows:
        raise BenchmarkFailed(f"{figures['rows']:g} rows came through instead of {rows}.")
    return figures


def _line(name: str, figures: Figures, plain: Figures) -> None:
    size = f"{figures['bytes']:>16.0f}" if "bytes" in figures else ""
    ratio = plain["seconds"] / figures["seconds"]
    speed, peak = figures["rows"] / figures["seconds"], figures["peak_mb"]
    print(f"{name:44} {speed:>9,.0f} {ratio:>6.3f} {peak:>8.0f} {size}".rstrip(), flush=True)
