"""How a checkup makes HTTP requests: the command brings what makes them, for the pipeline makes none by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whichever its status; `at` is this machine's clock (Unix seconds) when it began.

    The names of `headers` are in lower case; `body` is no more than its beginning, and shown to nobody.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    seconds: float = 0.0
    at: float = 0.0


class Ask(Protocol):
    """Makes one request, a POST when there is a body, and follows no redirect.

    Raises PartUnreachable when there was no answer; its sentence names host and cause, and nothing of the path.
    """

    def __call__(self, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply: ...


#: The headers that sign a body as the receiver's second proof, of the kind and with the secrets that the settings say.
Sign = Callable[[str, Sequence[str], bytes], Mapping[str, str]]
