"""What is left of something in the files of a folder, whole or in pieces."""

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
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        content = path.read_bytes()
        if any(piece in content for piece in pieces):
            found.append(path.name)
    return found
