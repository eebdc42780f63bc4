"""Starts a sandbox: python -m workers.sandbox --port 0."""

import argparse
import dataclasses
import sys
from pathlib import Path

import structlog

from workers.errors import InputError
from workers.sandbox.catalogue import write_manifest
from workers.sandbox.config import SandboxConfig
from workers.sandbox.fault_table import described
from workers.sandbox.server import serve


def main() -> int:
    """Runs a sandbox with the options of the command line; each field of SandboxConfig is one."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    parser = argparse.ArgumentParser(
        prog="python -m workers.sandbox",
        description=__doc__,
        epilog=f"Faults, for --faults and PUT /_sandbox/faults:\n{described()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for field in dataclasses.fields(SandboxConfig):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help="%(default)s")
    parser.add_argument("--write-manifest", type=Path, metavar="FILE", help="write the catalogue as CSV first")
    options = vars(parser.parse_args())
    manifest = options.pop("write_manifest")
    try:
        config = SandboxConfig(**options)
        if manifest is not None:
            write_manifest(manifest, config)
        serve(config, announce=_print)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _print(lines: str) -> None:
    sys.stdout.write(lines + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
