"""Runs the benchmarks; figures are to be quoted as ratios, for machines differ."""

import argparse
import sys

from benchmarks import intake
from benchmarks.limiter import command


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=f"{__doc__} Without a name: each of them, the limiter's in short."
    )
    names = parser.add_subparsers(dest="name", metavar="NAME")
    names.add_parser("intake", help=intake.__doc__)
    command.add_arguments(names.add_parser("limiter", help=command.__doc__, description=command.__doc__))
    options = parser.parse_args()
    if options.name == "limiter":
        return command.run(options)
    intake.run()
    if options.name == "intake":
        return 0
    print()
    return command.run(parser.parse_args(["limiter", "--quick"]))


if __name__ == "__main__":
    sys.exit(main())
