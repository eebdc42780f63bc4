"""What is left of something in the files of a folder, whole or in pieces."""

import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Final

#: So long a piece of compressed text is nobody else's by chance.
PIECE: Final = 12
#: Whatever is longer than both together has a whole piece in it.
STEP: Final = 16


def files_with(folder: Path, packed: bytes, *, but_not: Collection[bytes] = ()) -> list[str]:
    """The files of the folder that hold a piece of those bytes, but for pieces that are in others' bytes too."""
    pieces = {packed[at : at + PIECE] for at in range(0, len(packed) - PIECE, STEP)}
    pieces = {piece for piece in pieces if not any(piece in other for other in but_not)}
    assert pieces
    found = []
    for path in _files(folder):
        content = _content(path)
        if any(piece in content for piece in pieces):
            found.append(path.name)
    return found


def files_with_text(folder: Path, text: str) -> list[str]:
    """The files of the folder in which it is to be read."""
    return [path.name for path in _files(folder) if text.encode() in _content(path)]


def _files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file())


def _content(path: Path) -> bytes:
    """Read by another process: whoever closes an SQLite file takes the locks of its own connections to it."""
    return subprocess.run(["cat", path], capture_output=True, check=True).stdout
