"""Indexes transcripts by one and by four processes, then searches them while indexing goes on, and weighs them."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.limiter.stage import ENVIRONMENT, BenchmarkFailed
from benchmarks.search.child import ALIAS, opened
from workers.search.opensearch_cluster import Access, Cluster
from workers.search.opensearch_names import Names

PROCESSES: Final = 4
#: Into an index of its own, before: one process takes longer.
ALONE: Final = 10_000
QUERY_SECONDS: Final = 15
#: More than a writer manages while queries are measured.
ENDLESS: Final = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--transcripts", type=int, default=50_000, metavar="N", help="how many; default %(default)s")
    parser.add_argument("--url", help="a cluster on this machine, without credentials, instead of a file")


def run(options: argparse.Namespace) -> int:
    """Measures and prints; gives the exit code."""
    with tempfile.TemporaryDirectory(prefix="retroscribe-bench-") as folder:
        one = options.url or str(Path(folder) / "one.sqlite3")
        four = options.url or str(Path(folder) / "four.sqlite3")
        print(f"{'indexing in batches of 100':44} {'documents/s':>12} {'longest batch, s':>17} {'bytes/document':>15}")
        with _emptied(one):
            _indexed("1 process", one, min(ALONE, options.transcripts), 1)
        with _emptied(four):
            _indexed(f"{PROCESSES} processes", four, options.transcripts, PROCESSES)
            _searched(four, options.transcripts)
    return 0


def _indexed(name: str, place: str, number: int, processes: int) -> None:
    share = number // processes
    with _children(["write", place, str(part * share), str(share)] for part in range(processes)) as writers:
        began = time.perf_counter()
        told = _answers(writers)
        took = time.perf_counter() - began
    with closing(opened(place)) as index:
        # A cluster shows what it has stored within seconds.
        stored = len(index.versions(None, number + 1))
    if stored != share * processes:
        raise BenchmarkFailed(f"{stored} documents are there instead of {share * processes}.")
    longest = max(one["longest"] for one in told)
    # One process: without the time in which it made up what was said. Several do that while others write.
    took = told[0]["seconds"] if processes == 1 else took
    print(f"{name:44} {stored / took:>12,.0f} {longest:>17.2f} {_bytes(place) / stored:>15,.0f}", flush=True)


def _searched(place: str, number: int) -> None:
    with _children(
        [["write", place, str(number), str(ENDLESS), "until-gone"], ["query", place, str(QUERY_SECONDS)]]
    ) as (writer, reader):
        for child in (writer, reader):
            _begin(child)
        found = _answer(reader)
        _pipe(writer.stdin).close()
        meanwhile = _answer(writer)
    speed = meanwhile["documents"] / meanwhile["seconds"]
    heading = f"searching {number:,}, {speed:,.0f}/s come in"
    print(f"\n{heading:44} {'queries':>12} {'found':>8} {'p50, ms':>9} {'p99, ms':>9}")
    for kind, one in found.items():
        print(f"{kind:44} {one['queries']:>12} {one['found']:>8,} {one['p50']:>9.1f} {one['p99']:>9.1f}")


@contextmanager
def _children(arguments: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ready to begin."""
    children = [_start(one) for one in arguments]
    try:
        for child in children:
            if _pipe(child.stdout).readline() != "ready\n":
                raise BenchmarkFailed("A process ended before it began.")
        yield children
    finally:
        for child in children:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()


def _start(arguments: Sequence[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.search.child", *arguments]
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _answers(children: list["subprocess.Popen[str]"]) -> list[dict[str, Any]]:
    for child in children:
        _begin(child)
    return [_answer(child) for child in children]


def _begin(child: "subprocess.Popen[str]") -> None:
    _pipe(child.stdin).write("\n")
    _pipe(child.stdin).flush()


def _answer(child: "subprocess.Popen[str]") -> dict[str, Any]:
    line = _pipe(child.stdout).readline()
    if not line:
        raise BenchmarkFailed("A process of the benchmark failed.")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None  # noqa: S101 each child is started with pipes
    return end


@contextmanager
def _emptied(place: str) -> Iterator[None]:
    """A cluster keeps nothing of the benchmark's, before and after; a file goes with its folder."""
    if place.startswith("http"):
        _drop(place)
    yield
    if place.startswith("http"):
        _drop(place)


def _drop(url: str) -> None:
    with closing(Cluster(Access(url))) as cluster:
        names = Names(cluster, ALIAS)
        names.drop(names.places().all)


def _bytes(place: str) -> int:
    if not place.startswith("http"):
        return sum(file.stat().st_size for file in Path(place).parent.glob(f"{Path(place).name}*"))
    with closing(Cluster(Access(place))) as cluster:
        stats = cluster.call("GET", f"{ALIAS}/_stats/store").body
    return int(stats["_all"]["primaries"]["store"]["size_in_bytes"])
