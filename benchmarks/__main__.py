"""Runs the benchmarks; figures are to be quoted as ratios, for machines differ."""

import argparse
import os
import sys
from typing import Any, Final

from benchmarks import gate, urgent
from benchmarks.intake import command as intake
from benchmarks.limiter import command as limiter
from benchmarks.limiter.stage import BenchmarkFailed
from benchmarks.pipeline import command as pipeline
from benchmarks.receiver import command as receiver
from benchmarks.search import command as search

BENCHMARKS: Final[dict[str, Any]] = {
    "intake": intake,
    "pipeline": pipeline,
    "limiter": limiter,
    "gate": gate,
    "urgent": urgent,
    "receiver": receiver,
    "search": search,
}
IN_SHORT: Final = (["intake"], ["receiver"], ["limiter", "--quick"])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__} Without a name: intake, the receiver's, and the limiter's in short.",
    )
    names = parser.add_subparsers(dest="name", metavar="NAME")
    for name, benchmark in BENCHMARKS.items():
        benchmark.add_arguments(names.add_parser(name, help=benchmark.__doc__, description=benchmark.__doc__))
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("RETROSCRIBE_", "GENESYS_"))]:
        del os.environ[name]  # no run may touch a real deployment
    try:
        return _run(parser, options)
    except BenchmarkFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.name:
        return BENCHMARKS[options.name].run(options)
    for number, arguments in enumerate(IN_SHORT):
        if number:
            print()
        if failed := _run(parser, parser.parse_args(arguments)):
            return failed
    return 0


if __name__ == "__main__":
    sys.exit(main())
