"""Writes the rows that can't be used to a file that can be corrected and sent again."""

import csv
import secrets
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

import structlog

from workers.errors import InputError
from workers.intake.rows import Row

# Before the original columns; ignored when the corrected file is read.
REJECT_COLUMNS: Final = ("line", "reason")

log = structlog.get_logger(__name__)


class RejectedFile:
    """`NAME.rejected.csv` in a folder, the current one unless given, or any path: line, reason, original columns.

    A context manager. Rows go to a hidden file that takes its place at the end, also after an error or Ctrl-C, and
    only when there is a row: so the file of an earlier run can be read while its successor is written. That earlier
    file is kept with `.bak` behind its name, in place of an older one. Raises InputError when the folder can't be
    written to.
    """

    def __init__(self, name: str, folder: Path | None = None, *, path: Path | None = None) -> None:
        self.path = path or (folder or Path.cwd()) / f"{name}.rejected.csv"
        self.rows = 0
        self._draft = self.path.with_name(f".{secrets.token_hex(4)}.{self.path.name}")
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
            if self.path.exists():
                backup = self.path.with_name(f"{self.path.name}.bak")
                self.path.replace(backup)
                log.warning("rejected_file_replaced", path=str(self.path), earlier_kept_as=str(backup))
            self._draft.replace(self.path)
        except OSError as problem:
            raise self._unwritable(problem) from None

    def add(self, row: Row) -> None:
        """Adds a refused row."""
        # The columns of a rejected file that was corrected and sent again give way to new ones.
        kept = [place for place, column in enumerate(row.columns) if column not in REJECT_COLUMNS]
        beyond = row.cells[len(row.columns) :]
        cells = [row.cells[place] if place < len(row.cells) else "" for place in kept]
        try:
            if self._file is None:
                self._file = self._draft.open("w", encoding="utf-8", errors="replace", newline="")
                self._writer = csv.writer(self._file, lineterminator="\n")
                self._writer.writerow([*REJECT_COLUMNS, *(row.columns[place] for place in kept)])
            self._writer.writerow([row.line, row.reason, *cells, *beyond])
        except OSError as problem:
            raise self._unwritable(problem) from None
        self.rows += 1

    def _unwritable(self, problem: OSError) -> InputError:
        return InputError(f"{self.path} can't be written: {problem.strerror}; run in a folder that you can write to.")
