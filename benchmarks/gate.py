"""Measures what a long Retry-After costs while much work waits: the memory of broker and workers, and calls."""

import argparse
import time
from typing import Final

import redis

from benchmarks.waiting import PARTS, Scene, waiting
from config import queues

BEFORE_SECONDS: Final = 20
LONGEST_WAIT_FOR_END_SECONDS: Final = 30
SHOWN: Final = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--recordings", type=int, default=100_000, metavar="N", help="that wait; default %(default)s")
    parser.add_argument("--seconds", type=int, default=600, metavar="N", help="Retry-After; default %(default)s")


def run(options: argparse.Namespace) -> int:
    """Fills a ledger, has the API answer one 429, and looks until its time is over; gives the exit code."""
    with waiting(options.recordings) as scene, redis.Redis(unix_socket_path=str(scene.socket)) as server:
        _measure(scene, server, options.recordings, options.seconds)
    return 0


def _measure(scene: Scene, server: "redis.Redis", recordings: int, seconds: int) -> None:
    print(f"{recordings} recordings wait; {BEFORE_SECONDS} s of work, then one 429 with Retry-After: {seconds}\n")
    print(
        f"{'second':>6} {'submits':>8} {'messages':>9} {'broker MB':>10} " + " ".join(f"{p + ' MB':>12}" for p in PARTS)
    )
    time.sleep(BEFORE_SECONDS)
    _line(scene, server, 0)
    scene.api.fault({"submit_status": 429, "retry_after": seconds, "count": 1})
    closed_at = time.monotonic()
    for number in range(1, SHOWN + 1):
        time.sleep(max(0.0, closed_at + (seconds - 2) * number / SHOWN - time.monotonic()))
        scene.stage.check()
        before = _line(scene, server, round(time.monotonic() - closed_at))
    while scene.api.submits() == before and time.monotonic() < closed_at + seconds + LONGEST_WAIT_FOR_END_SECONDS:
        time.sleep(0.05)
    print(f"\nThe next submission came {time.monotonic() - closed_at - seconds:.1f} s after the end of that time.")


def _line(scene: Scene, server: "redis.Redis", second: int) -> int:
    """Prints how things stand, and gives the number of submissions so far."""
    submits = scene.api.submits()
    waiting = sum(server.llen(name) for name in queues.ALL)
    broker = server.info("memory")["used_memory"] / 1e6
    memory = " ".join(f"{scene.stage.resident_mb(role):>12.1f}" for role in PARTS)
    print(f"{second:>6} {submits:>8} {waiting:>9} {broker:>10.2f} {memory}", flush=True)
    return submits
