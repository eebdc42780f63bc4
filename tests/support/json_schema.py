"""As much of JSON Schema as our own schema uses; anything else is an error, so that nothing passes unlooked at."""

import re
from collections.abc import Callable
from typing import Any, Final

TYPES: Final = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
SAYS_NOTHING: Final = {"$schema", "$defs", "title", "description", "default"}

Check = Callable[[Any, Any, dict[str, Any], dict[str, Any]], bool]


def _known(value: Any, _: Any, schema: dict[str, Any], __: dict[str, Any]) -> bool:
    return not isinstance(value, dict) or value.keys() <= schema["properties"].keys()


def _properties(value: Any, wanted: Any, _: dict[str, Any], whole: dict[str, Any]) -> bool:
    return not isinstance(value, dict) or all(
        is_valid(value[name], wanted[name], whole) for name in value.keys() & wanted.keys()
    )


def _items(value: Any, wanted: Any, _: dict[str, Any], whole: dict[str, Any]) -> bool:
    return not isinstance(value, list) or all(is_valid(one, wanted, whole) for one in value)


CHECKS: Final[dict[str, Check]] = {
    "type": lambda value, wanted, *_: isinstance(value, TYPES[wanted]),
    "enum": lambda value, wanted, *_: value in wanted,
    "pattern": lambda value, wanted, *_: not isinstance(value, str) or re.search(wanted, value) is not None,
    "minLength": lambda value, wanted, *_: not isinstance(value, str) or len(value) >= wanted,
    "maxLength": lambda value, wanted, *_: not isinstance(value, str) or len(value) <= wanted,
    "minItems": lambda value, wanted, *_: not isinstance(value, list) or len(value) >= wanted,
    "maxItems": lambda value, wanted, *_: not isinstance(value, list) or len(value) <= wanted,
    "required": lambda value, wanted, *_: not isinstance(value, dict) or value.keys() >= set(wanted),
    "anyOf": lambda value, wanted, _, whole: any(is_valid(value, one, whole) for one in wanted),
    "$ref": lambda value, wanted, _, whole: is_valid(value, whole["$defs"][wanted.removeprefix("#/$defs/")], whole),
    "additionalProperties": _known,
    "properties": _properties,
    "items": _items,
}


def is_valid(value: Any, schema: dict[str, Any], whole: dict[str, Any] | None = None) -> bool:
    """Whether the value is as the schema wants it; raises KeyError for a keyword that is not known here."""
    words = schema.keys() - SAYS_NOTHING
    return all(CHECKS[word](value, schema[word], schema, whole or schema) for word in words)
