"""Says in one sentence what is wrong with a value."""

import json
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

SHOWN_LENGTH: Final = 80

# Pure ASCII: what is cut from a value can be shown and stored anywhere, whatever the value holds.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, default=str)

_SAYS: Final = {
    "string_type": "is not text",
    "bool_type": "is not true or false",
    "list_type": "is not a list",
    "string_pattern_mismatch": "is not a name: 1 to 64 characters of a-z, 0-9, '.', '_' and '-'",
}


def shown(value: object) -> str:
    """The value for a person: one line without unprintable characters, text in quotes, cut at 80 characters."""
    if isinstance(value, str):
        return repr(value if len(value) <= SHOWN_LENGTH else value[:SHOWN_LENGTH] + "...")
    return cut_json(value, SHOWN_LENGTH)


def cut_json(value: object, length: int) -> str:
    """The start of the value as JSON, at most `length` ASCII characters, at the cost of no more than these."""
    text = ""
    for piece in _ENCODER.iterencode(value):
        text += piece
        if len(text) > length:
            return text[: length - 3] + "..."
    return text


def printable(text: str, length: int) -> str:
    """At most `length` characters of the text, with the replacement character for those that can't be printed."""
    text = text[:length]
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "�" for sign in text)


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong: all unknown fields, or else the first value, without a full stop."""
    details = error.errors(include_url=False)
    unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
    if not unknown:
        return _problem(details[0])
    names = ", ".join(shown(_field(detail))[1:-1] for detail in unknown)
    known = model
    for part in unknown[0]["loc"][:-1]:
        inner = known.model_fields[str(part)].annotation
        assert isinstance(inner, type)  # noqa: S101 only a model has fields that can be unknown
        known = inner
    return f"{names}: not known here; the fields are {', '.join(known.model_fields)}"


def _problem(detail: ErrorDetails) -> str:
    field, kind, context = _field(detail), detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return f"{field}: {context['error']}"
    if kind in ("missing", "missing_argument"):
        return f"{field}: missing, and needed"
    if kind == "too_long":
        count, most = context["actual_length"], context["max_length"]
        return f"{field}: {count:,} entries are more than {most:,} a message; send them in several messages"
    if kind == "enum":
        return f"{field}: {shown(detail['input'])} is not {context['expected']}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{field or 'entry'}: {shown(detail['input'])} is not an object with fields"
    return f"{field}: {shown(detail['input'])} {_SAYS.get(kind, detail['msg'])}"


def _field(detail: ErrorDetails) -> str:
    return ".".join(str(part) for part in detail["loc"])
