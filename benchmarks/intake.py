"""Reading a manifest and taking it into the ledger, beside Python's own CSV reader on the same file."""

import csv
import logging
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from config.logging import configure_logging
from config.settings import Settings
from workers.intake.entries import Defaults
from workers.intake.manifest import read_manifest
from workers.ledger.migrate import migrate
from workers.model import Lane
from workers.pipeline.enqueue import take_rows
from workers.resources import Resources

ROWS: Final = 100_000


def run() -> None:
    """Prints rows a second of each way, and how it compares with the plain reader."""
    configure_logging("console", level=logging.ERROR)  # there is no broker to tell of new work
    with tempfile.TemporaryDirectory(prefix="retroscribe-bench-") as folder:
        manifest = Path(folder) / "manifest.csv"
        with manifest.open("w", encoding="utf-8") as file:
            file.write("media_id,languages\n")
            file.writelines(f"{uuid.uuid4()},en-US;es-US\n" for _ in range(ROWS))
        ways: dict[str, Callable[[], int]] = {
            "csv.DictReader, nothing checked": lambda: _plain(manifest),
            "manifest reader, every row checked": lambda: sum(1 for _ in read_manifest(manifest, Defaults(("en-US",)))),
            "the same into an SQLite ledger": lambda: _ledger(manifest, Path(folder)),
        }
        seconds = {name: _timed(way) for name, way in ways.items()}
    fastest = seconds["csv.DictReader, nothing checked"]
    print(f"{'intake of ' + format(ROWS, ',') + ' rows':40} {'rows/s':>10} {'ratio':>8}")
    for name, taken in seconds.items():
        print(f"{name:40} {ROWS / taken:>10,.0f} {fastest / taken:>8.2f}")


def _timed(way: Callable[[], int]) -> float:
    began = time.perf_counter()
    done = way()
    taken = time.perf_counter() - began
    if done != ROWS:
        raise SystemExit(f"{done} rows came through instead of {ROWS}")
    return taken


def _plain(manifest: Path) -> int:
    with manifest.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.DictReader(file))


def _ledger(manifest: Path, folder: Path) -> int:
    resources = Resources(Settings(home=folder / "home"))
    migrate(resources.ledger)
    defaults = Defaults(("en-US",))
    rows = read_manifest(manifest, defaults)
    steps = take_rows(resources, "bench", rows, defaults=defaults, lane=Lane.BACKFILL, by="benchmark")
    (taken,) = deque(steps, maxlen=1)
    resources.close()
    return taken.accepted
