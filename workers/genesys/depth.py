"""How deep JSON is nested, found out without reading it as JSON."""

import re
from typing import Final

# Possessive, and without its last quote when there is none: each byte is looked at once, whatever comes.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def is_deeper(raw: bytes, levels: int) -> bool:
    """Whether arrays and objects are nested more than so many levels deep; of what is no JSON, True or False."""
    rest = _STRING.sub(b"", raw).translate(None, _NO_BRACKETS).translate(_BRACKETS)
    for _ in range(levels):
        without_innermost = rest.replace(b"[]", b"")
        if without_innermost == rest:
            break
        rest = without_innermost
    return b"[" in rest
