"""Reads manifests, CSV with a header or JSON lines, row by row in constant memory."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from workers.errors import InputError
from workers.intake.csv_rows import read_csv
from workers.intake.entries import MAX_NAME_LENGTH, Defaults
from workers.intake.json_rows import read_json_lines
from workers.intake.lines import Line, Lines
from workers.intake.reasons import shown
from workers.intake.rejected import RejectedFile
from workers.intake.rows import Row

__all__ = ["RejectedFile", "Row", "backfill_name_from", "read_manifest"]

_SUFFIXES: Final = (".gz", ".csv", ".jsonl", ".ndjson")


def read_manifest(path: str | Path, defaults: Defaults) -> Iterator[Row]:
    """The rows of a file, or of standard input for `-`; what a row leaves out comes from the defaults.

    CSV, JSON lines and gzip are told apart by content. Raises InputError at once when the file can't be used at all,
    and while reading when it breaks off: the rows until then stand. A bad row is handed out with its reason.
    """
    with ExitStack() as opened:
        lines = opened.enter_context(Lines(path))
        first = _first(lines)
        if first.text.lstrip().startswith("{"):
            lines.give_back([first])
            rows = read_json_lines(lines, defaults)
        else:
            rows = read_csv(lines, first, defaults)
        opened.pop_all()
        return rows


def backfill_name_from(path: str | Path) -> str:
    """A backfill's name made of a file's name; raises InputError, asking for --name, when none can be."""
    if str(path) == "-":
        raise InputError("Standard input has no name to call the backfill by; give one with --name.")
    stem = Path(path).name.lower()
    while stem.endswith(_SUFFIXES):
        stem = stem.rpartition(".")[0]
    name = re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-.")
    if not re.search(r"[a-z0-9]", name):
        raise InputError(f"The file name {shown(Path(path).name)} makes no name for a backfill; give one with --name.")
    if len(name) > MAX_NAME_LENGTH:
        raise InputError(
            f"The file name {shown(name)} has more than a name's {MAX_NAME_LENGTH} characters; give one with --name."
        )
    return name


def _first(lines: Lines) -> Line:
    """The first line that is not blank."""
    first = next((line for line in lines if line.problem or line.text.strip()), None)
    if first is None:
        raise InputError(f"{lines.name} is empty; its first line must name the columns, at least media_id.")
    if first.problem:
        raise InputError(
            f"{lines.name} can't be used, line {first.number}: {first.problem}. Give CSV or JSON lines in UTF-8."
        )
    if first.text.lstrip().startswith("["):
        raise InputError(
            f"{lines.name} is a JSON array; write one object on each line instead (`jq -c '.[]'` does it)."
        )
    if first.text.strip() == "{":
        raise InputError(
            f"{lines.name} has a JSON object over several lines; write each on one line (`jq -c .` does it)."
        )
    return first
