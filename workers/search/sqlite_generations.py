"""Which file is the embedded index: a name that stays, and the files that take turns behind it.

NAME.sqlite3        the index itself, or, once it was rebuilt, a symbolic link to the file that is
NAME-vN.sqlite3     a rebuilt index; of its -wal and -shm SQLite takes care
NAME.sqlite3.next   while one is being filled: a symbolic link to it, for every writer to write there too

A link is replaced in one step, so each process finds the one or the other, whenever it looks.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

_BESIDE: Final = ("", "-wal", "-shm", "-journal")


class Generations:
    """The files of the index at `path`; each call looks anew. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = path.with_name(f"{path.name}.next")

    @property
    def current(self) -> Path:
        """The file that is searched."""
        return self._target(self._path) or self._path

    @property
    def next(self) -> Path | None:
        """The file that is being filled, if one is."""
        return self._target(self._next)

    @property
    def written(self) -> list[Path]:
        """The files that every document goes to."""
        # In this order: whoever finds no next one any more finds what became of it.
        filled, current = self.next, self.current
        return [current] if filled is None or filled == current else [filled, current]

    def may_make(self, file: Path) -> bool:
        """Whether the file is to be made where it is missing: a rebuilt one is there or was removed."""
        return file == self._path

    def unused(self) -> Path:
        """The name of a file that there is not yet."""
        numbers = [int(number) for _, number in self._rebuilt()]
        return self._path.with_name(f"{self._path.stem}-v{max(numbers, default=1) + 1}{self._path.suffix}")

    def fill(self, new: Path) -> None:
        """Has every writer write the new file too; removes what broken-off rebuilds have left."""
        self._point(self._next, new)
        for file, _ in self._rebuilt():
            if file not in (new, self.current):
                _remove(file)

    def switch(self, new: Path) -> None:
        """Makes the new file the one that is searched, and removes the one before."""
        old = self.current
        self._point(self._path, new)
        self._next.unlink(missing_ok=True)
        # Whoever has it open goes on with it to the end of what it does.
        _remove(old, besides_only=old == self._path)

    def drop(self, new: Path) -> None:
        """Removes a file that was being filled."""
        if self.next == new:
            self._next.unlink(missing_ok=True)
        if self.current != new:
            _remove(new)

    def _target(self, link: Path) -> Path | None:
        try:
            return self._path.with_name(link.readlink().name)
        except OSError:  # not there, or no link
            return None

    def _point(self, link: Path, file: Path) -> None:
        draft = link.with_name(f".{link.name}.draft")
        draft.unlink(missing_ok=True)
        draft.symlink_to(file.name)
        draft.replace(link)

    def _rebuilt(self) -> list[tuple[Path, str]]:
        pattern = re.compile(re.escape(self._path.stem) + r"-v(\d+)" + re.escape(self._path.suffix))
        found = ((file, pattern.fullmatch(file.name)) for file in self._path.parent.iterdir())
        return [(file, match[1]) for file, match in found if match]


def _remove(file: Path, *, besides_only: bool = False) -> None:
    for ending in _BESIDE[1:] if besides_only else _BESIDE:
        with suppress(FileNotFoundError):
            file.with_name(f"{file.name}{ending}").unlink()
