"""Runs a part of Retroscribe as its command does, with waits cut short: `python -m tests.support.part beat`.

The environment says how, in variables that nothing else reads and `tests.support.fleet` sets:

PART_CONSTANTS  JSON object, `module:NAME` to value. They are set in this order and before the command is imported, so
                a module whose constants others import by name stands before those.
PART_DIES_AT    a point of `tests.support.death` at which this process kills itself.
PART_SETTINGS   JSON object, setting to value: settings of this part without their checks.
"""

import faulthandler
import importlib
import json
import os
import signal
from functools import reduce
from typing import Any

from config import settings
from tests.support import death


def main() -> None:
    """Prepares this process as the environment says, then becomes the command; SIGUSR2 shows what its threads do."""
    faulthandler.register(signal.SIGUSR2)
    # Settings first: what the constants lie in imports `load_settings` by name.
    _set_settings(json.loads(os.environ.get("PART_SETTINGS", "{}")))
    for place, value in json.loads(os.environ.get("PART_CONSTANTS", "{}")).items():
        _set_constant(place, value)
    if wish := os.environ.get("PART_DIES_AT"):
        death.arrange(wish)

    from workers.cli.main import main as command  # noqa: PLC0415 prepared first

    command()


def _set_constant(place: str, value: Any) -> None:
    module, _, path = place.partition(":")
    *way, name = path.split(".")
    holder = reduce(getattr, way, importlib.import_module(module))
    if not hasattr(holder, name):
        raise SystemExit(f"PART_CONSTANTS names {place}, which there is not: give it its new name in the tests.")
    setattr(holder, name, tuple(value) if isinstance(value, list) else value)


def _set_settings(changes: dict[str, Any]) -> None:
    load = settings.load_settings
    unknown = changes.keys() - settings.Settings.model_fields.keys()
    if unknown:
        raise SystemExit(f"PART_SETTINGS names {', '.join(sorted(unknown))}, which is no setting.")
    settings.load_settings = lambda: load().model_copy(update=changes)


if __name__ == "__main__":
    main()
