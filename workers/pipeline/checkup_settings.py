"""The part of a checkup that asks nobody: settings, their names, and the home."""

import difflib
import os
import re
import tempfile
from typing import Final

from dotenv import dotenv_values
from pydantic_settings import BaseSettings

from config.genesys import GenesysSettings
from config.setting_types import SettingsProblem
from config.settings import Settings, load_settings
from workers.errors import LedgerError
from workers.ledger.engine import refuse_network_file_system
from workers.pipeline.finding import Finding, ok, warning, wrong

_MODELS: Final[dict[str, type[BaseSettings]]] = {"RETROSCRIBE_": Settings, "GENESYS_": GenesysSettings}
_KNOWN: Final = sorted(
    f"{prefix}{field.upper()}"
    for prefix, model in _MODELS.items()
    for field, about in model.model_fields.items()
    if not about.exclude
)
_CORRECT_IT: Final = "Correct it in the environment or .env."


def check_settings() -> tuple[Settings | None, Finding]:
    """The settings, None when they can't be used, and what there is to say about them."""
    try:
        settings = load_settings()
        if settings.callback_base_url and settings.shared_ledger:
            _ = settings.signing_secrets
        unknown = _unknown_names()
    except SettingsProblem as error:
        # The value of a URL may hold a password.
        problem = re.sub(r"(_URL) \(it is .*\)(?=: )", r"\1", str(error), flags=re.DOTALL)
        problem = problem.removesuffix(f"; {_CORRECT_IT[0].lower()}{_CORRECT_IT[1:]}")
        return None, wrong("settings", _also(problem, _unknown_names()), _CORRECT_IT)
    except (OSError, ValueError) as error:
        found = f"they can't be read ({type(error).__name__})"
        return None, wrong("settings", found, "See that .env is a readable file of NAME=value lines in UTF-8.")
    if unknown:
        return settings, warning("settings", unknown, "Rename or remove it: it has no effect.")
    return settings, ok("settings", "all can be used")


def check_home(settings: Settings) -> Finding:
    """Whether the home is on a local disk and can be written to; one that is not there yet is not made."""
    home = settings.home
    elsewhere = "Set RETROSCRIBE_HOME to a folder on a local disk that this user may write to."
    try:
        refuse_network_file_system(home)
        if not home.exists():
            parent = next(folder for folder in home.parents if folder.exists())
            if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
                return wrong("home", f"{home} is not there and can't be made in {parent}", elsewhere)
            return ok("home", f"{home} is not there yet; what needs it makes it")
        with tempfile.TemporaryFile(dir=home):
            return ok("home", f"{home} is local and writable")
    except LedgerError as error:
        return wrong("home", str(error), elsewhere)
    except OSError as error:
        return wrong("home", f"{home} can't be written to ({error.strerror})", elsewhere)


def _unknown_names() -> str:
    """What to say about variables that look like settings and are none, empty when there are none of these."""
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env", interpolate=False))}
    unknown = sorted(name for name in given.difference(_KNOWN) if name.startswith(tuple(_MODELS)))
    return "; ".join(f"{name} is no setting, the closest one is {_closest(name)}" for name in unknown)


def _closest(name: str) -> str:
    return difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0)[0]


def _also(problem: str, unknown: str) -> str:
    return f"{problem.rstrip('.')}. Besides, {unknown}." if unknown else problem
