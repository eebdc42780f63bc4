"""Tells files that are no list of lines in UTF-8 by how they begin, with the next step for each."""

from typing import Final

_UTF_16: Final = "is UTF-16 text; save it as UTF-8 (Excel calls that CSV UTF-8)"
_WORKBOOK: Final = "is a workbook or zip archive; export it as CSV (UTF-8)"
_COMPRESSED: Final = "is compressed with {}; only gzip is read here: decompress it, or compress it with gzip"
_BEGINNINGS: Final = {
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
    b"PK\x03\x04": _WORKBOOK,
    b"\xd0\xcf\x11\xe0": "is a workbook of an old Excel; export it as CSV (UTF-8)",
    b"PAR1": "is a Parquet file; export it as CSV or JSON lines",
    b"%PDF": "is a PDF document; export what it lists as CSV (UTF-8)",
    b"BZh": _COMPRESSED.format("bzip2"),
    b"\xfd7zXZ": _COMPRESSED.format("xz"),
    b"\x28\xb5\x2f\xfd": _COMPRESSED.format("Zstandard"),
}
#: Of UTF-16 without a mark at its beginning: these letters are ASCII, so each has a zero byte.
_LETTERS: Final = 4


def problem_of(first: bytes) -> str | None:
    """Why a file whose first line is this can't be read, as the end of a sentence; None when nothing shows."""
    for beginning, problem in _BEGINNINGS.items():
        if first.startswith(beginning):
            return problem
    start = first[: 2 * _LETTERS]
    if len(start) == 2 * _LETTERS and bytes(_LETTERS) in (start[::2], start[1::2]) and start.count(0) == _LETTERS:
        return _UTF_16
    # A CR in a cell would be in quotes; JSON has none within an object, but quotes.
    if b"\r" in first.rstrip(b"\r\n") and (b'"' not in first or first.lstrip().startswith(b"{")):
        return "ends its lines with CR alone, as old Macs did; save it with LF or CR LF (`tr '\\r' '\\n'` does it)"
    return None
