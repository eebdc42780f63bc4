"""Runs the benchmarks; figures are to be quoted as ratios, for machines differ."""

import argparse
import sys

from benchmarks import gate
from benchmarks.intake import command as intake
from benchmarks.limiter import command


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=f"{__doc__} Without a name: intake, and the limiter's in short."
    )
    names = parser.add_subparsers(dest="name", metavar="NAME")
    intake.add_arguments(names.add_parser("intake", help=intake.__doc__, description=intake.__doc__))
    command.add_arguments(names.add_parser("limiter", help=command.__doc__, description=command.__doc__))
    gate.add_arguments(names.add_parser("gate", help=gate.__doc__, description=gate.__doc__))
    options = parser.parse_args()
    if options.name == "gate":
        return gate.run(options)
    if options.name == "limiter":
        return command.run(options)
    if options.name == "intake":
        return intake.run(options)
    failed = intake.run(parser.parse_args(["intake"]))
    print()
    return failed or command.run(parser.parse_args(["limiter", "--quick"]))


if __name__ == "__main__":
    sys.exit(main())
