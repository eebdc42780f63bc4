"""Measures how many recordings a second go the whole way to the search index, and the memory of each process."""

import argparse
import os
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.limiter.stage import BenchmarkFailed
from benchmarks.pipeline.scene import BROKER, PARTS, SANDBOX, Scene, embedded

RECORDINGS: Final = 2500
LOOK_EVERY_SECONDS: Final = 0.5
#: Between these shares of all recordings the flow is steady: all parts are at work.
STEADY: Final = (0.1, 0.9)
#: Memory is looked at when these shares are done.
MOMENTS: Final = (0.0, 0.1, 0.5, 1.0)
LONGEST_STANDSTILL_SECONDS: Final = 60.0
NAMES: Final = (*PARTS, BROKER, SANDBOX)


@dataclass(frozen=True, slots=True)
class Moment:
    """How far it was, when, and what each process had taken until then: MB held, seconds of the processor."""

    done: int
    at: float
    memory: dict[str, float]
    cpu: dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument(
        "--recordings", type=int, default=RECORDINGS, metavar="N", help="in all; default %(default)s, 100000 for memory"
    )


def run(options: argparse.Namespace) -> int:
    """Has the stack work through a list once, and prints two tables; gives the exit code."""
    with embedded(options.recordings) as scene:
        moments = _watched(scene, options.recordings)
    _print(options.recordings, moments)
    return 0


def _watched(scene: Scene, recordings: int) -> list[Moment]:
    """The moments of MOMENTS, and those between which the flow was steady, in their order."""
    moments = [_moment(scene, 0)]
    scene.begin()
    left = sorted({round(share * recordings) for share in (*MOMENTS[1:], *STEADY)})
    last, moved_at = 0, time.monotonic()
    while left:
        time.sleep(LOOK_EVERY_SECONDS)
        scene.stage.check()
        done = scene.indexed()
        if done != last:
            last, moved_at = done, time.monotonic()
        elif time.monotonic() - moved_at > LONGEST_STANDSTILL_SECONDS:
            raise BenchmarkFailed(f"Nothing was indexed for a minute; the recordings are {scene.states()}.")
        while left and done >= left[0]:
            left.pop(0)
            moments.append(_moment(scene, done))
    return moments


def _moment(scene: Scene, done: int) -> Moment:
    return Moment(
        done,
        time.monotonic(),
        {name: scene.stage.resident_mb(name) for name in NAMES},
        {name: scene.stage.cpu_seconds(name) for name in NAMES},
    )


def _print(recordings: int, moments: list[Moment]) -> None:
    first, last = (next(one for one in moments if one.done >= share * recordings) for share in STEADY)
    if first.done == last.done:
        raise BenchmarkFailed(f"{recordings} recordings are done before anything can be measured: take more.")
    seconds, done = last.at - first.at, last.done - first.done
    print(
        f"{recordings} recordings, {done / seconds:.1f} indexed a second between {first.done} and {last.done} of them,"
    )
    print(f"in all {moments[-1].at - moments[0].at:.0f} s; load of the machine {os.getloadavg()[0]:.1f}\n")
    shown = [next(one for one in moments if one.done >= share * recordings) for share in MOMENTS]
    heads = [f"{one.done} done, MB" for one in shown]
    print(f"{'':10} " + " ".join(f"{head:>16}" for head in heads) + f" {'processor':>10}")
    for name in NAMES:
        used = (last.cpu[name] - first.cpu[name]) / seconds
        print(f"{name:10} " + " ".join(f"{one.memory[name]:>16.1f}" for one in shown) + f" {used:>10.0%}")
    whole = sum(last.cpu[name] - first.cpu[name] for name in NAMES)
    print(f"\n{1000 * whole / done:.1f} ms of one processor a recording, all processes together")
