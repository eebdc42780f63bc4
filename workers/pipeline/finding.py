"""What a check found, and how to mend it."""

import re
from dataclasses import asdict, dataclass, replace
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is: only `wrong` keeps recordings from being transcribed."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a checkup; `fix` is one sentence, None when there is nothing to do.

    `unreachable`: a part is missing or can't be used, rather than a setting or a credential wrong.
    """

    name: str
    state: Verdict
    found: str
    fix: str | None = None
    unreachable: bool = False

    @property
    def is_wrong(self) -> bool:
        return self.state is Verdict.WRONG

    def without_passwords(self) -> "Finding":
        """The same, without what stands in a URL for user and password, or behind its question mark."""
        return replace(self, found=_without_passwords(self.found), fix=self.fix and _without_passwords(self.fix))

    def as_json(self) -> dict[str, str | None]:
        """The stable form of `retroscribe doctor --json`."""
        shown = asdict(self)
        del shown["unreachable"]
        return shown


def ok(name: str, found: str) -> Finding:
    return Finding(name, Verdict.OK, found)


def warning(name: str, found: str, fix: str) -> Finding:
    return Finding(name, Verdict.WARNING, found, fix)


def wrong(name: str, found: str, fix: str, *, unreachable: bool = False) -> Finding:
    return Finding(name, Verdict.WRONG, found, fix, unreachable)


def _without_passwords(text: str) -> str:
    return re.sub(r"(://[^\s?]*)\?[^\s,;'\")]*", r"\1", re.sub(r"://\S*@", "://***@", text))
