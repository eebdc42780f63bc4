"""Reads a file or standard input as numbered text lines in constant memory, gzipped or not."""

import gzip
import io
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, cast

from workers.errors import InputError
from workers.intake.kinds import problem_of

MAX_LINE_BYTES: Final = 131_072
_BOM: Final = b"\xef\xbb\xbf"
_CUT_BYTES: Final = 1000
# The first byte of the gzip magic is a control character, with which no text begins: one byte is enough to tell, and
# one is all that a pipe is sure to have.
_GZIP: Final = b"\x1f"

Stream = io.BufferedReader | gzip.GzipFile


class Line(NamedTuple):
    """One physical line with its end; `problem` says why its text can't be trusted, None when it can."""

    number: int
    text: str
    problem: str | None


class Lines:
    """The lines of an open manifest, from line 1; a context manager that closes the file.

    Raises InputError when the file can't be read any further; a single bad line is handed out with its problem.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = "Standard input" if str(path) == "-" else str(path)
        self._waiting: deque[Line] = deque()
        with ExitStack() as opened:
            stream = _open(path, self.name, opened)
            self._lines = self._read(stream)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Line:
        return self._waiting.popleft() if self._waiting else next(self._lines)

    def give_back(self, lines: list[Line]) -> None:
        """Makes the lines the next ones again."""
        self._waiting.extendleft(reversed(lines))

    def _read(self, stream: Stream) -> Iterator[Line]:
        number = 0
        try:
            for number, data in enumerate(iter(partial(stream.readline, MAX_LINE_BYTES), b""), 1):
                if number == 1:
                    if problem := problem_of(data):
                        raise InputError(f"{self.name} {problem}.")
                    yield _line(1, data.removeprefix(_BOM), stream)
                else:
                    yield _line(number, data, stream)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            where = f"after line {number}" if number else "at its beginning"
            raise InputError(
                f"{self.name} is no whole gzip file: it breaks off or is damaged {where}; fetch it again and repeat "
                "the command, which counts nothing twice."
            ) from None
        except OSError as error:
            raise InputError(
                f"{self.name} can't be read after line {number}: {error.strerror}; copy it to a sound disk and repeat "
                "the command, which counts nothing twice."
            ) from None


def _open(path: str | Path, name: str, opened: ExitStack) -> Stream:
    try:
        source = sys.stdin.buffer if str(path) == "-" else opened.enter_context(Path(path).open("rb"))  # noqa: SIM115 the stack closes it
        plain = source if isinstance(source, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", source))
        first = plain.peek(1)[:1]
    except FileNotFoundError:
        raise InputError(f"{name} does not exist; check the path, relative to {Path.cwd()}.") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a folder; name one CSV or JSON lines file.") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{name} can't be opened: {why}; correct the path or its permissions.") from None
    if first != _GZIP:
        return plain
    # Read without a buffer around it, which would keep back the last good lines of a file that breaks off.
    return opened.enter_context(gzip.GzipFile(fileobj=plain, mode="rb"))


def _line(number: int, data: bytes, stream: Stream) -> Line:
    if len(data) == MAX_LINE_BYTES and not data.endswith(b"\n"):
        while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        cut = data[:_CUT_BYTES].decode(errors="replace")
        problem = f"the line is longer than {MAX_LINE_BYTES:,} bytes; each recording has a line of its own"
        return Line(number, cut, problem)
    if b"\0" in data:
        return Line(
            number,
            data.decode(errors="replace"),
            "the line holds NUL bytes, so it is binary or damaged; export it anew",
        )
    try:
        return Line(number, data.decode(), None)
    except UnicodeDecodeError as error:
        problem = f"the line is not UTF-8 text: byte 0x{data[error.start]:02x} at {error.start + 1}; save it as UTF-8"
        return Line(number, data.decode(errors="replace"), problem)
