"""Reads the rows of a CSV manifest so that a broken one can't take the rows after it along."""

import csv
from collections.abc import Iterator, Sequence
from typing import Final

import structlog

from workers.errors import InputError
from workers.intake.entries import Defaults
from workers.intake.lines import Line, Lines
from workers.intake.reasons import shown
from workers.intake.rejected import REJECT_COLUMNS
from workers.intake.rows import COLUMNS, Row, RowMaker, meant_by, slip_reason, value_of

# A record in quotes may span lines. No real one spans this much, but one whose quote is never closed does.
MAX_RECORD_CHARACTERS: Final = 1_048_576
_QUOTES: Final = (
    'the quotes do not match: a value that begins with " must end with it, and a quote inside it is written twice'
)
_SEPARATORS: Final = {";": "';'", "\t": "tabs", "|": "'|'"}

Places = Sequence[tuple[str, int]]

log = structlog.get_logger(__name__)


class _BrokenQuotes(Exception):
    """The record's quotes are not closed where a record may end."""


def read_csv(lines: Lines, first: Line, defaults: Defaults) -> Iterator[Row]:
    """The rows after the header, which begins at the line `first`; raises InputError at once for an unusable header."""
    columns = _header(lines, first)
    places: Places = [(name, columns.index(name)) for name in COLUMNS if name in columns]
    return _rows(lines, places, RowMaker(columns, defaults))


def _rows(lines: Lines, places: Places, maker: RowMaker) -> Iterator[Row]:
    width = len(maker.columns)
    with lines:
        for line in lines:
            if line.problem:
                yield maker.refused(line.number, line.text, line.problem, _loose(line))
                continue
            try:
                cells, text = _record(lines, line, places)
            except _BrokenQuotes:
                yield maker.refused(line.number, line.text, _QUOTES, _loose(line))
                continue
            values = {
                name: value_of(name, cell)
                for name, place in places
                if place < len(cells) and (cell := cells[place].strip())
            }
            if len(cells) > width and any(cell.strip() for cell in cells[width:]):
                reason = (
                    f"the row has {len(cells)} cells, the header {width}; put a value that holds a comma into quotes"
                )
                yield maker.refused(line.number, text, reason, tuple(cells))
            elif values or any(cell.strip() for cell in cells):
                yield maker.judged(line.number, text, values, tuple(cells))


def _record(lines: Lines, first: Line, places: Places) -> tuple[list[str], str]:
    """The cells and the text of the record that begins at the line, reading on while a quote is open.

    Raises _BrokenQuotes after giving back the lines read on: the slip is in the first, and they may be rows.
    """
    if '"' not in first.text:
        return first.text.rstrip("\r\n").split(","), first.text
    taken = [first]
    try:
        cells = next(csv.reader(_while_open(lines, taken), strict=True, skipinitialspace=True))
    except (csv.Error, _BrokenQuotes):
        cells = []
    # No value of ours spans lines: where one seems to, a quote was closed by one that was meant to open the next.
    if not cells or any("\n" in cells[place].strip() for _, place in places if place < len(cells)):
        lines.give_back(taken[1:])
        raise _BrokenQuotes
    return cells, "".join(line.text for line in taken)


def _while_open(lines: Lines, taken: list[Line]) -> Iterator[str]:
    yield taken[0].text
    length = len(taken[0].text)
    for line in lines:
        taken.append(line)
        length += len(line.text)
        if line.problem or length > MAX_RECORD_CHARACTERS:
            raise _BrokenQuotes
        yield line.text


def _loose(line: Line) -> tuple[str, ...]:
    """The line's cells as well as they can be told apart."""
    return tuple(next(csv.reader([line.text.rstrip("\r\n").replace("\r", " ")]), []))


def _header(lines: Lines, first: Line) -> tuple[str, ...]:
    try:
        cells, _ = _record(lines, first, [])
    except _BrokenQuotes:
        raise InputError(f"{lines.name}, line {first.number}: {_QUOTES}; correct the header.") from None
    columns = tuple(cell.strip() for cell in cells)
    _check_separator(lines.name, columns)
    found = ", ".join(shown(column) for column in columns[:10]) + (", ..." if len(columns) > 10 else "")
    for name in COLUMNS:
        if columns.count(name) > 1:
            raise InputError(f"{lines.name} has the column {name} more than once; keep one of them.")
        slip = None if name in columns else next((column for column in columns if meant_by(column) == name), None)
        if slip is not None:
            raise InputError(f"{lines.name}: the column {slip_reason(slip, name)}.")
    if "media_id" not in columns:
        raise InputError(
            f"{lines.name} has no column media_id: its first line has {found}; name the columns there, "
            "comma-separated. A list without a header needs one: a first line media_id."
        )
    ignored = [column for column in columns if column not in COLUMNS + REJECT_COLUMNS]
    if ignored:
        log.info("manifest_columns_ignored", columns=[column[:80] for column in ignored[:10]], count=len(ignored))
    return columns


def _check_separator(name: str, columns: tuple[str, ...]) -> None:
    """Raises InputError for a header that other signs than commas separate, as Excel does where a comma is decimal."""
    if len(columns) != 1:
        return
    for sign, called in _SEPARATORS.items():
        parts = {meant_by(part.strip()) for part in columns[0].split(sign)} if sign in columns[0] else set()
        if "media_id" in parts or columns[0].lower() == f"sep={sign}":
            raise InputError(
                f"{name} separates its columns by {called}, and only commas do that here: save it comma-separated, "
                "with ';' between the languages of one recording."
            )
