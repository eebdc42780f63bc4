"""Runs the benchmarks; figures are to be quoted as ratios, for machines differ."""

import argparse
import os
import sys

from benchmarks import gate
from benchmarks.intake import command as intake
from benchmarks.limiter import command as limiter
from benchmarks.limiter.stage import BenchmarkFailed
from benchmarks.receiver import command as receiver


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__} Without a name: intake, the receiver's, and the limiter's in short.",
    )
    names = parser.add_subparsers(dest="name", metavar="NAME")
    intake.add_arguments(names.add_parser("intake", help=intake.__doc__, description=intake.__doc__))
    limiter.add_arguments(names.add_parser("limiter", help=limiter.__doc__, description=limiter.__doc__))
    gate.add_arguments(names.add_parser("gate", help=gate.__doc__, description=gate.__doc__))
    receiver.add_arguments(names.add_parser("receiver", help=receiver.__doc__, description=receiver.__doc__))
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
    if options.name == "gate":
        return gate.run(options)
    if options.name == "limiter":
        return limiter.run(options)
    if options.name == "intake":
        return intake.run(options)
    if options.name == "receiver":
        return receiver.run(options)
    failed = intake.run(parser.parse_args(["intake"]))
    print()
    failed = failed or receiver.run(parser.parse_args(["receiver"]))
    print()
    return failed or limiter.run(parser.parse_args(["limiter", "--quick"]))


if __name__ == "__main__":
    sys.exit(main())
