"""How `run` and `plan` read a list, so that both make the same of it."""

from collections.abc import Iterator
from itertools import chain

from config.settings import Settings
from workers.errors import InputError
from workers.intake.entries import Defaults
from workers.intake.manifest import Row, read_manifest


def defaults_from(settings: Settings, languages: str | None, redaction_policy: str | None) -> Defaults:
    """What holds for rows that say nothing else; raises InputError for an option that can't be used."""
    tags = tuple(tag.strip() for tag in languages.split(",")) if languages else settings.languages
    return Defaults(tags, redaction_policy)


def some_rows(file: str, defaults: Defaults) -> Iterator[Row]:
    """The file's rows; raises InputError when there is none, before anything is made for them."""
    rows = read_manifest(file, defaults)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{file} names no recordings: write one a line below its header.")
    return chain([first], rows)
