"""How deep JSON is nested, found out without reading it as JSON."""

import re
from typing import Final

_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NEITHER_BRACKET_NOR_QUOTE: Final = bytes(set(range(256)) - set(b'[]{}"'))
# Without its last quote when there is none, so that each byte is looked at once, whatever comes.
_STRING: Final = re.compile(rb'"[^"]*+"?')


def is_deeper(raw: bytes, levels: int) -> bool:
    """Whether arrays and objects are nested more than so many levels deep; of what is no JSON, True or False."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is left of quotes begins or ends a string
    rest = raw.translate(_BRACKETS, _NEITHER_BRACKET_NOR_QUOTE)
    # Two quotes in a row hold no bracket between them, whether they are one string or the seam of two.
    rest = _STRING.sub(b"", rest.replace(b'""', b""))
    for _ in range(levels):
        without_innermost = rest.replace(b"[]", b"")
        if without_innermost == rest:
            break
        rest = without_innermost
    return b"[" in rest
