"""What becomes of one row of a manifest, whichever form the manifest has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from workers.intake.entries import RAW_LENGTH, Defaults, read_entry, resolve
from workers.intake.reasons import printable, shown
from workers.model import TranscriptionRequest

COLUMNS: Final = ("media_id", "languages", "redaction_policy_id", "speaker_identification")
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FOLDED: Final = {name.replace("_", ""): name for name in COLUMNS}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a manifest: `request` when it can be used, otherwise `reason`, a sentence without its full stop.

    `line` is its first line in the file, from 1; `raw` at most 200 characters of it. `columns` and `cells` are what a
    rejected file writes back; there may be more cells than columns, or fewer.
    """

    line: int
    raw: str
    request: TranscriptionRequest | None
    reason: str | None
    columns: tuple[str, ...]
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowMaker:
    """Makes the rows of one manifest."""

    columns: tuple[str, ...]
    defaults: Defaults

    def judged(self, line: int, text: str, values: Mapping[str, object], cells: tuple[str, ...]) -> Row:
        """The row with a request, or with the reason why its values make none."""
        entry = read_entry(values)
        if isinstance(entry, str):
            return self.refused(line, text, entry, cells)
        return Row(line, _raw(text), resolve(entry, self.defaults), None, self.columns, cells)

    def refused(self, line: int, text: str, reason: str, cells: tuple[str, ...]) -> Row:
        return Row(line, _raw(text), None, reason, self.columns, cells)


def value_of(column: str, cell: str) -> object:
    """What a non-empty cell of a known column says; a text that says nothing is left for the check to refuse."""
    if column == "languages":
        return tag_list(cell)
    if column == "speaker_identification":
        return _BOOLEANS.get(cell.lower(), cell)
    return cell


@lru_cache(maxsize=1024)
def tag_list(cell: str) -> tuple[str, ...]:
    return tuple(tag for part in cell.split(";") if (tag := part.strip()))


def meant_by(name: str) -> str | None:
    """The known column that a name is so close to that it must be a slip; None for one that means something else."""
    return _closest(name[:64])


def slip_reason(name: str, meant: str) -> str:
    return f"{shown(name)} looks like {meant}: rename it to {meant}, or leave it out"


@lru_cache(maxsize=256)
def _closest(name: str) -> str | None:
    folded = re.sub(r"[^a-z]", "", name.lower())
    close = get_close_matches(folded, _FOLDED, n=1, cutoff=0.8)
    return _FOLDED[close[0]] if close else None


def _raw(text: str) -> str:
    return printable(text.rstrip("\r\n"), RAW_LENGTH)
