"""Sorts a list's unusable lines by what is wrong with them."""

import re
from dataclasses import dataclass, field
from typing import Final

#: Line numbers that are kept of each kind.
SHOWN_LINES: Final = 3
#: Kinds that are told apart, so that no list, whatever it holds, takes more memory.
MOST_KINDS: Final = 50
_VALUES: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|0x[0-9a-f]+|\d[\d,]*""")


@dataclass(slots=True)
class Kind:
    """Lines with which the same is wrong: the first one's reason, how many there are, and the first of them."""

    reason: str
    number: int = 0
    lines: list[int] = field(default_factory=list)


class Unusable:
    """Takes reasons in, which hold the values that are at fault, and gives the kinds of them."""

    def __init__(self) -> None:
        self.number = 0
        self._kinds: dict[str, Kind] = {}

    def add(self, line: int, reason: str) -> None:
        self.number += 1
        key = _VALUES.sub("…", reason)
        if key not in self._kinds and len(self._kinds) >= MOST_KINDS:
            key = reason = "something else"
        kind = self._kinds.setdefault(key, Kind(reason))
        kind.number += 1
        if len(kind.lines) < SHOWN_LINES:
            kind.lines.append(line)

    def kinds(self) -> list[Kind]:
        """The kinds, the most frequent first."""
        return sorted(self._kinds.values(), key=lambda kind: -kind.number)
