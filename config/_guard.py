"""Refuses to start when another package answers to one of our three generic import names."""

from importlib.util import find_spec
from pathlib import Path

NAMES = ("config", "tasks", "workers")
HOUSE = Path(__file__).resolve().parents[1]


def check() -> None:
    """Ends the process with one sentence when `config`, `tasks` or `workers` is not the package in this folder.

    Called by each of the three, by file path, because the name `config` itself may be the one that is shadowed.
    """
    for name in NAMES:
        spec = find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve() != HOUSE / name / "__init__.py":
            raise SystemExit(
                f"Retroscribe can't start: the import name '{name}' belongs to {origin or 'no package with a file'}, "
                f"not to {HOUSE / name}; remove or rename that one, or take its folder off PYTHONPATH."
            )
