"""Runs the benchmarks; figures are to be quoted as ratios, for machines differ."""

import argparse
import sys

from benchmarks import gate, intake
from benchmarks.limiter import command


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=f"{__doc__} Without a name: intake, and the limiter's in short."
    )
    names = parser.add_subparsers(dest="name", metavar="NAME")
    names.add_parser("intake", help=intake.__doc__)
    command.add_arguments(names.add_parser("limiter", help=command.__doc__, description=command.__doc__))
    gate.add_arguments(names.add_parser("gate", help=gate.__doc__, description=gate.__doc__))
    options = parser.parse_args()
    if options.name == "gate":
        return gate.run(options)
    if options.name == "limiter":
        return command.run(options)
    intake.run()
    if options.name == "intake":
        return 0
    print()
    return command.run(parser.parse_args(["limiter", "--quick"]))


if __name__ == "__main__":
    sys.exit(main())
