"""One way of taking recordings in, or one look at a full ledger, in a process of its own whose memory is measured.

python -m benchmarks.intake.child WAY MANIFEST, with the settings of a deployment; prints one JSON object.
"""

import csv
import json
import logging
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select, text

from config import queues, task_names
from config.logging import configure_logging
from config.settings import load_settings
from workers.app import app
from workers.intake.entries import MAX_ENTRIES, Defaults
from workers.intake.manifest import read_manifest
from workers.ledger.engine import sqlite_path
from workers.ledger.tables import recordings
from workers.model import Lane, State
from workers.pipeline.enqueue import enqueue, take_rows
from workers.pipeline.pump import pump
from workers.pipeline.status import status
from workers.resources import Resources

BACKFILL: Final = "bench"
BY: Final = "benchmark"
PUMPS: Final = 20
LOOKS: Final = 3
RESULT_SECONDS: Final = 600

Figures = dict[str, float]


def main(way: str, manifest: str) -> None:
    configure_logging("console", level=logging.ERROR)
    resources = Resources(load_settings())
    figures = WAYS[way](resources, Path(manifest))
    resources.close()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**figures, "peak_mb": kilobytes * 1024 / 1e6}))


def plain(_: Resources, manifest: Path) -> Figures:
    """Python's own reader, nothing checked."""
    began = time.perf_counter()
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = sum(1 for _ in csv.DictReader(file))
    return _speed(rows, began)


def read(_: Resources, manifest: Path) -> Figures:
    """Our reader, every row checked, nothing stored."""
    began = time.perf_counter()
    return _speed(sum(1 for _ in read_manifest(manifest, Defaults(("en-US",)))), began)


def take_csv(resources: Resources, manifest: Path) -> Figures:
    """As `retroscribe run` does."""
    defaults = Defaults(("en-US",))
    began = time.perf_counter()
    rows = read_manifest(manifest, defaults)
    steps = take_rows(resources, BACKFILL, rows, defaults=defaults, lane=Lane.BACKFILL, by=BY)
    (taken,) = deque(steps, maxlen=1)
    return {**_speed(taken.accepted, began), "bytes": _bytes_a_recording(resources)}


def take_messages(resources: Resources, manifest: Path) -> Figures:
    """As the task `retroscribe.enqueue` does."""
    accepted, seconds = 0, 0.0
    for message in _messages(manifest):
        began = time.perf_counter()
        accepted += enqueue(resources, message, by=BY)["accepted"]
        seconds += time.perf_counter() - began
    return {"rows": accepted, "seconds": seconds, "bytes": _bytes_a_recording(resources)}


def send_messages(resources: Resources, manifest: Path) -> Figures:
    """As another app does: through the broker to a worker, until the last result is there."""
    began = time.perf_counter()
    sent = [app.send_task(task_names.ENQUEUE, queue=queues.INTAKE, kwargs=one) for one in _messages(manifest)]
    accepted = sum(one.get(timeout=RESULT_SECONDS)["accepted"] for one in sent)
    return {**_speed(accepted, began), "bytes": _bytes_a_recording(resources)}


def look(resources: Resources, _: Path) -> Figures:
    """What `status` takes, and what the broker holds when the pump has filled its queues."""
    while pump(resources, by=BY):
        pass
    memory: Any = resources.redis.info("memory")
    seconds = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        status(resources, BACKFILL).as_json()
        seconds.append(time.perf_counter() - began)
    return {"broker_mb": memory["used_memory"] / 1e6, "status_seconds": min(seconds)}


def hand_out(resources: Resources, _: Path) -> Figures:
    """How fast the pump hands out when the queues have been emptied."""
    handed_out, seconds = 0, 0.0
    for _ in range(PUMPS):
        began = time.perf_counter()
        handed_out += pump(resources, by=BY)
        seconds += time.perf_counter() - began
        resources.redis.delete(*queues.ALL)
        with resources.ledger.write() as tx:
            out = recordings.c.state == State.QUEUED
            tx.execute(recordings.update().where(out).values(state=State.REJECTED))
    return {"handed_out": handed_out, "seconds": seconds}


def _messages(manifest: Path) -> Iterator[dict[str, Any]]:
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        while some := [_entry(row) for row in islice(rows, MAX_ENTRIES)]:
            yield {"backfill": BACKFILL, "recordings": some}


def _entry(row: dict[str, str]) -> dict[str, Any]:
    return {"media_id": row["media_id"], "languages": row["languages"].split(";")}


def _speed(rows: int, began: float) -> Figures:
    return {"rows": rows, "seconds": time.perf_counter() - began}


def _bytes_a_recording(resources: Resources) -> float:
    resources.ledger.checkpoint()
    path = sqlite_path(resources.settings.effective_database_url)
    size_on_server = text("SELECT pg_total_relation_size('recordings')")
    with resources.ledger.read() as tx:
        rows = tx.execute(select(func.count()).select_from(recordings)).scalar_one()
        size = path.stat().st_size if path else tx.execute(size_on_server).scalar_one()
    return float(size) / max(rows, 1)


WAYS: Final[dict[str, Callable[[Resources, Path], Figures]]] = {
    one.__name__: one for one in (plain, read, take_csv, take_messages, send_messages, look, hand_out)
}

if __name__ == "__main__":
    main(*sys.argv[1:])
