"""Measures, while much work waits, how soon a live recording is submitted, and what a cancel costs and stops."""

import argparse
import statistics
import subprocess
import sys
import time
from typing import Final

from celery import Celery

from benchmarks.limiter.stage import ENVIRONMENT, BenchmarkFailed
from benchmarks.waiting import NAME, Scene, waiting
from config import queues, task_names
from config.urls import kombu_url

BEFORE_SECONDS: Final = 20
LIVE: Final = 10
LONGEST_WAIT_SECONDS: Final = 60
#: Longer than a call may take, and than what is queued lasts.
AFTER_SECONDS: Final = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--recordings", type=int, default=100_000, metavar="N", help="that wait; default %(default)s")


def run(options: argparse.Namespace) -> int:
    """Fills a ledger, sends live recordings one after the other, then cancels the backfill; gives the exit code."""
    with waiting(options.recordings, spare=LIVE) as scene:
        print(f"{options.recordings} recordings wait; {BEFORE_SECONDS} s of work first\n")
        time.sleep(BEFORE_SECONDS)
        waits = sorted(_live(scene, media_id) for media_id in scene.spare)
        print(f"A live recording is accepted {statistics.median(waits):.1f} s after it was sent; {LIVE} times,")
        print(f"the quickest {waits[0]:.1f} s, the slowest {waits[-1]:.1f} s.\n")
        _cancel(scene)
    return 0


def _live(scene: Scene, media_id: str) -> float:
    """Sends one recording as another app would, and gives the seconds until the API had accepted it."""
    began = time.monotonic()
    with Celery(broker=kombu_url(f"unix://{scene.socket}"), set_as_current=False) as other_app:
        message = {"backfill": "live", "lane": "live", "recordings": [{"media_id": media_id}]}
        other_app.send_task(task_names.ENQUEUE, queue=queues.CONTROL, kwargs=message)
    while media_id not in scene.api.accepted():
        if time.monotonic() - began > LONGEST_WAIT_SECONDS:
            raise BenchmarkFailed(f"The live recording was not accepted within {LONGEST_WAIT_SECONDS} s.")
        time.sleep(0.02)
    return time.monotonic() - began


def _cancel(scene: Scene) -> None:
    """Cancels by the command, and counts what was accepted while it ran and after it."""
    before = scene.api.submits()
    began = time.monotonic()
    cancelling = subprocess.run(
        [sys.executable, "-m", "workers.cli.main", "cancel", NAME, "--yes"],
        env={**ENVIRONMENT, **scene.settings},
        capture_output=True,
        text=True,
        check=False,
    )
    took, during = time.monotonic() - began, scene.api.submits()
    print(cancelling.stdout.strip() or cancelling.stderr.strip())
    time.sleep(AFTER_SECONDS)
    print(f"\nThe command took {took:.1f} s, Python's start included; {during - before} submissions left meanwhile,")
    print(f"{scene.api.submits() - during} in the {AFTER_SECONDS} s after it.")
