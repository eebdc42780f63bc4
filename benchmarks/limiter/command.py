"""Measures how much of a rate limit is used, and how many 429s that costs: ours, plain Celery, a simple script."""

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.limiter.figures import settled, table
from benchmarks.limiter.measure import AROUND_SECONDS, measure
from benchmarks.limiter.plot import MISSING, PlotUnavailable, plot
from benchmarks.limiter.runs import ALL, Run, select
from benchmarks.limiter.stage import BenchmarkFailed

OUTPUT: Final = Path("build/limiter.jsonl")
Result = tuple[Run, dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--quick", action="store_true", help="two runs of 10 s: shows that it works, measures nothing")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="runs with this in their names; * fits anything")
    parser.add_argument("--seconds", type=int, metavar="N", help="another length for each run than 120 s")
    parser.add_argument("--minutes", type=float, metavar="N", help="as many runs as fit that OUTPUT does not have yet")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON lines to add to, one a run; %(default)s")
    parser.add_argument("--table", type=Path, metavar="FILE", help="runs nothing: the table of this output")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the PNG; as OUTPUT with .png unless named")
    parser.add_argument("--list", action="store_true", help="runs nothing: the names of the runs")


def run(options: argparse.Namespace) -> int:
    """Does what the options say; gives the exit code."""
    runs = select(options.only, options.seconds, quick=options.quick)
    if not runs or any(one.seconds < 5 for one in runs):
        sys.stderr.write("Nothing to run: --only must fit a name of --list, and --seconds must be 5 or more.\n")
        return 2
    if options.list:
        print("\n".join(one.name for one in runs))
        return 0
    output = (options.table or options.output).absolute()
    plot_file = (options.plot or output.with_suffix(".png")).absolute()
    code = 0
    if options.table is None:
        code = _run_all(runs, output, options.minutes)
        results = [(one, result) for one, result in _read(output) if one in runs]
    else:
        results = _read(output)
    if results:
        _report(results, output, plot_file)
    return code


def _run_all(runs: Sequence[Run], output: Path, minutes: float | None) -> int:
    """Runs one after the other, each written as soon as it is measured; gives the exit code."""
    began = time.monotonic()
    done = set() if minutes is None else {one for one, _ in _read(output)}
    waiting = [one for one in runs if one not in done]
    total = sum(one.seconds + AROUND_SECONDS for one in waiting)
    print(f"{len(waiting)} runs, about {total / 60:.0f} min; results go to {output}", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # all that was started is ended, as with Ctrl-C
    for number, one in enumerate(waiting):
        left = None if minutes is None else minutes * 60 - (time.monotonic() - began)
        if left is not None and left < one.seconds + AROUND_SECONDS:
            print(f"{len(waiting) - number} runs are left: give the same command again.")
            return 0
        print(f"{number + 1:>3} of {len(waiting)}  {one.name}, {one.seconds} s ...", flush=True)
        try:
            result = measure(one)
        except BenchmarkFailed as error:
            sys.stderr.write(f"{one.name} failed: {error}\n")
            return 1
        except KeyboardInterrupt:
            sys.stderr.write("Stopped; what was measured so far is kept.\n")
            return 130
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
    return 0


def _read(output: Path) -> list[Result]:
    """The latest result of each run in the file, in the order in which runs are listed."""
    if not output.exists():
        return []
    fields = {field.name for field in dataclasses.fields(Run)}
    latest: dict[Run, dict[str, Any]] = {}
    for line in output.read_text(encoding="utf-8").splitlines():
        result = json.loads(line)
        latest[Run(**{name: result[name] for name in fields})] = result
    order = {one.name: place for place, one in enumerate(ALL)}
    return sorted(latest.items(), key=lambda found: order.get(found[0].name, len(order)))


def _report(results: Sequence[Result], output: Path, plot_file: Path) -> None:
    """Prints the table and writes the plot, or says why not."""
    print("\nThe first share and 429s are the steady state: from a quarter of the run on, from half of it for a minute")
    print("and for a limit that is really lower; `all` is from the first second.\n")
    print(table(results))
    for one, result in results:
        if one.really:
            print(f"\n{settled(one, result['columns'])}")
    try:
        if plot(results, plot_file):
            print(f"\nThe plot is in {plot_file}")
    except PlotUnavailable:
        sys.stderr.write(f"\n{MISSING} `python -m benchmarks limiter --table {output}`.\n")
