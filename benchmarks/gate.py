"""Measures what a long Retry-After costs while much work waits: the memory of broker and workers, and calls."""

import argparse
import csv
import os
import sys
import tempfile
import time
from contextlib import chdir, closing
from pathlib import Path
from typing import Final

import redis

from benchmarks.limiter.api import Api
from benchmarks.limiter.contenders import wait_for_consumers
from benchmarks.limiter.runs import OURS, Run
from benchmarks.limiter.stage import BenchmarkFailed, Stage
from config import queues
from workers.stack.valkey import valkey_child

RATE: Final = 10
BEFORE_SECONDS: Final = 20
LONGEST_WAIT_FOR_END_SECONDS: Final = 30
PARTS: Final = ("pipeline", "control", "index")
SHOWN: Final = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--recordings", type=int, default=100_000, metavar="N", help="that wait; default %(default)s")
    parser.add_argument("--seconds", type=int, default=600, metavar="N", help="Retry-After; default %(default)s")


def run(options: argparse.Namespace) -> int:
    """Fills a ledger, has the API answer one 429, and looks until its time is over; gives the exit code."""
    for name in [name for name in os.environ if name.startswith(("RETROSCRIBE_", "GENESYS_"))]:
        del os.environ[name]  # no run may touch a real deployment
    # Only the number of its recordings matters of this run: it says how many the API knows.
    known = Run(OURS, "token-bucket", rate=RATE, seconds=options.recordings // RATE)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="retroscribe-bench-") as folder,
            chdir(folder),
            Stage(Path(folder)) as stage,
            closing(Api(known, stage)) as api,
        ):
            _measure(stage, api, options.recordings, options.seconds)
    except BenchmarkFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _measure(stage: Stage, api: Api, recordings: int, seconds: int) -> None:
    server = _start(stage, api)
    manifest = stage.folder / "gate.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["media_id"], *([media_id] for media_id in api.media_ids[:recordings])])
    stage.call("workers.cli.main", "run", str(manifest), "--no-follow", env=_settings(stage, api))
    print(f"{recordings} recordings wait; {BEFORE_SECONDS} s of work, then one 429 with Retry-After: {seconds}\n")
    print(
        f"{'second':>6} {'submits':>8} {'messages':>9} {'broker MB':>10} " + " ".join(f"{p + ' MB':>12}" for p in PARTS)
    )
    time.sleep(BEFORE_SECONDS)
    _line(stage, api, server, 0)
    api.fault({"submit_status": 429, "retry_after": seconds, "count": 1})
    closed_at = time.monotonic()
    for number in range(1, SHOWN + 1):
        time.sleep(max(0.0, closed_at + (seconds - 2) * number / SHOWN - time.monotonic()))
        stage.check()
        before = _line(stage, api, server, round(time.monotonic() - closed_at))
    while api.submits() == before and time.monotonic() < closed_at + seconds + LONGEST_WAIT_FOR_END_SECONDS:
        time.sleep(0.05)
    print(f"\nThe next submission came {time.monotonic() - closed_at - seconds:.1f} s after the end of that time.")


def _start(stage: Stage, api: Api) -> redis.Redis:
    socket = stage.folder / "valkey.sock"
    child = valkey_child(stage.folder, socket, stage=0)
    stage.start(child)
    assert child.ready is not None  # noqa: S101 for the type checker
    stage.wait_for(child.ready, "The start of Valkey")
    settings = _settings(stage, api)
    stage.call("workers.cli.main", "migrate", env=settings)
    for role in PARTS:
        stage.python(role, "workers.cli.main", "worker", "--role", role, env=settings)
    stage.python("beat", "workers.cli.main", "beat", env=settings)
    wait_for_consumers(stage, socket, list(queues.ALL))
    return redis.Redis(unix_socket_path=str(socket))


def _settings(stage: Stage, api: Api) -> dict[str, str]:
    return {
        **api.env,
        "RETROSCRIBE_HOME": str(stage.folder),
        "RETROSCRIBE_REDIS_URL": f"unix://{stage.folder / 'valkey.sock'}",
        "RETROSCRIBE_SUBMIT_LIMIT": str(RATE),
    }


def _line(stage: Stage, api: Api, server: redis.Redis, second: int) -> int:
    """Prints how things stand, and gives the number of submissions so far."""
    submits = api.submits()
    waiting = sum(server.llen(name) for name in queues.ALL)
    broker = server.info("memory")["used_memory"] / 1e6
    memory = " ".join(f"{stage.resident_mb(role):>12.1f}" for role in PARTS)
    print(f"{second:>6} {submits:>8} {waiting:>9} {broker:>10.2f} {memory}", flush=True)
    return submits
