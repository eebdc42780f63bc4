"""Reads the rows of a JSON lines manifest."""

import json
from collections.abc import Iterator

from workers.intake.entries import RAW_LENGTH, Defaults
from workers.intake.lines import Lines
from workers.intake.reasons import SHOWN_LENGTH, cut_json
from workers.intake.rows import COLUMNS, Row, RowMaker, meant_by, slip_reason, value_of


def read_json_lines(lines: Lines, defaults: Defaults) -> Iterator[Row]:
    """The rows; text in a field means what it would in a CSV cell, null and \"\" mean the default.

    A line whose shape is at fault is kept whole in the first cell, so that a rejected file loses nothing of it.
    """
    maker = RowMaker(COLUMNS, defaults)
    with lines:
        for line in lines:
            text = line.text.strip()
            if not text:
                continue
            fields, reason = _object(text) if line.problem is None else ({}, line.problem)
            if reason:
                yield maker.refused(line.number, line.text, reason, (text,))
                continue
            values = {name: value for name in COLUMNS if (value := _value(name, fields.get(name))) is not None}
            yield maker.judged(line.number, line.text, values, tuple(_cell(fields.get(name)) for name in COLUMNS))


def _object(text: str) -> tuple[dict[str, object], str | None]:
    """The object on the line, or why there is none."""
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        return {}, f"not a JSON object on one line: {error.msg} at character {error.colno}"
    except (ValueError, RecursionError):
        return {}, "not a JSON object on one line: a number too long, or nested too deep"
    if not isinstance(fields, dict):
        return {}, f"{cut_json(fields, SHOWN_LENGTH)} is not a JSON object with fields"
    for key in fields.keys() - set(COLUMNS):
        if (meant := meant_by(key)) and meant not in fields:
            return {}, slip_reason(key, meant)
    return fields, None


def _value(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.strip()
    return value_of(name, text) if text else None


def _cell(value: object) -> str:
    """The value as a CSV cell says it."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return ";".join(value)
    return cut_json(value, RAW_LENGTH)
