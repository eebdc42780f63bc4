"""Manifests: what is read of them, what is said of a bad row or file, and the file of rejected rows."""

import csv
import gzip
import io
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import InputError
from workers.intake.entries import Defaults
from workers.intake.lines import MAX_LINE_BYTES
from workers.intake.manifest import RejectedFile, Row, backfill_name_from, read_manifest
from workers.model import TranscriptionRequest

DEFAULTS = Defaults(("en-US",), "policy-1")


def rows_of(folder: Path, content: bytes | str, name: str = "calls.csv") -> list[Row]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_manifest(path, DEFAULTS))


def ids(rows: list[Row]) -> list[str | None]:
    return [row.request.media_id if row.request else None for row in rows]


def refusal(folder: Path, content: bytes | str) -> str:
    with pytest.raises(InputError) as caught:
        rows_of(folder, content)
    return str(caught.value).replace(str(folder / "calls.csv"), "FILE")


def test_a_csv_row_overrides_defaults_and_an_empty_cell_means_the_default(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        "media_id,languages,redaction_policy_id,speaker_identification\na,de-de; fr-FR ,p2,no\nb,,,\nc\n",
    )
    assert [row.request for row in rows] == [
        TranscriptionRequest("a", ("de-DE", "fr-FR"), "p2", False),
        TranscriptionRequest("b", ("en-US",), "policy-1", True),
        TranscriptionRequest("c", ("en-US",), "policy-1", True),
    ]
    assert [(row.line, row.raw, row.reason) for row in rows[:2]] == [
        (2, "a,de-de; fr-FR ,p2,no", None),
        (3, "b,,,", None),
    ]


@pytest.mark.parametrize(
    ("cell", "value"), [("true", True), ("YES", True), ("1", True), ("False", False), ("0", False)]
)
def test_speaker_identification_has_several_spellings(tmp_path: Path, cell: str, value: bool) -> None:
    (row,) = rows_of(tmp_path, f"media_id,speaker_identification\na,{cell}\n")
    assert row.request is not None
    assert row.request.speaker_identification is value


def test_bom_crlf_quotes_blank_lines_and_further_columns_are_read(tmp_path: Path) -> None:
    content = '\ufeff"media_id", "languages",note\r\n\r\n"a","en-US","one\r\ntwo, ""three"""\r\n,,\r\n  \r\nb,,x'
    rows = rows_of(tmp_path, content)
    assert ids(rows) == ["a", "b"]
    assert [row.line for row in rows] == [3, 7]


def test_json_lines_are_read_by_content_whatever_the_name(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        '\n{"media_id": "a", "languages": ["de-DE"], "agent": 5}\n\n'
        '{"media_id": "b", "languages": "fr-FR;es-ES", "speaker_identification": "no", "redaction_policy_id": null}\n',
    )
    assert [row.request for row in rows] == [
        TranscriptionRequest("a", ("de-DE",), "policy-1", True),
        TranscriptionRequest("b", ("fr-FR", "es-ES"), "policy-1", False),
    ]
    assert [row.line for row in rows] == [2, 4]


@pytest.mark.parametrize("text", ["media_id\na\nb\n", '{"media_id": "a"}\n{"media_id": "b"}\n'])
def test_gzip_is_told_by_content(tmp_path: Path, text: str) -> None:
    half = len(text) // 2
    two_members = gzip.compress(text[:half].encode()) + gzip.compress(text[half:].encode())
    assert ids(rows_of(tmp_path, two_members, "calls.csv")) == ["a", "b"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch, pack: type[bytes]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pack(b"media_id\na\n"))))
    assert ids(list(read_manifest("-", DEFAULTS))) == ["a"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a b,,", "media_id: 'a b' is not an id: printable characters without spaces or slashes"),
        (",en-US,", "media_id: missing, and needed"),
        ("a,klingon!,", "languages: 'klingon!' is not a BCP 47 tag such as en-US"),
        ("a,;,", "languages: [] has 0 tags, a request has 1 to 10"),
        ("a,,maybe", "speaker_identification: 'maybe' is not true or false"),
        ("a,en-US,es-ES,no", "the row has 4 cells, the header 3; put a value that holds a comma into quotes"),
        ('a,"en-US"x,', "the quotes do not match"),
        ("a\0,,", "the line holds NUL bytes, so it is binary or damaged"),
        ("a," + "x" * MAX_LINE_BYTES, "the line is longer than 131,072 bytes"),
    ],
)
def test_a_bad_row_says_why_and_the_rest_goes_on(tmp_path: Path, line: str, reason: str) -> None:
    rows = rows_of(tmp_path, f"media_id,languages,speaker_identification\n{line}\nz,,,,\n")
    assert ids(rows) == [None, "z"]
    assert (rows[0].line, rows[1].line) == (2, 3)
    assert str(rows[0].reason).startswith(reason)
    assert len(rows[0].raw) <= 200


def test_a_later_line_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, b"media_id\na\nb\xe9\nc\n")
    assert ids(rows) == ["a", None, "c"]
    assert rows[1].reason == "the line is not UTF-8 text: byte 0xe9 at 2; save it as UTF-8"


@pytest.mark.parametrize(
    "tail",
    ["", 'd,"en-US",\n', "d,,\n" * 40_000, 'd,"en-US","two\nlines"\n'],
    ids=["end", "quotes", "long", "spanning"],
)
def test_a_quote_that_is_never_closed_spoils_its_own_line_only(tmp_path: Path, tail: str) -> None:
    rows = rows_of(tmp_path, f'media_id,languages,note\na,,\nb,"en-US,\nc,,\n{tail}')
    assert ids(rows[:3]) == ["a", None, "c"]
    assert [row.line for row in rows[:3]] == [2, 3, 4]
    assert set(ids(rows[3:])) <= {"d"}
    assert len(rows) == 3 + tail.count("d,")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"media_id": 5}', "media_id: 5 is not text in quotes"),
        ('{"media_id": ""}', "media_id: missing, and needed"),
        ('{"media_id": "a", "langauges": ["de-DE"]}', "'langauges' looks like languages: rename it to languages"),
        ('{"media_id": "a", "languages": ["x!"]}', "languages: 'x!' is not a BCP 47 tag such as en-US"),
        ('{"media_id": "a"', "not a JSON object on one line: Expecting ',' delimiter at character 17"),
        ("[1]", "[1] is not a JSON object with fields"),
        ("[" * 100_000, "not a JSON object on one line"),
        ('{"media_id": ' + "9" * 5000 + "}", "not a JSON object on one line"),
    ],
)
def test_a_bad_json_line_says_why_and_the_rest_goes_on(tmp_path: Path, line: str, reason: str) -> None:
    rows = rows_of(tmp_path, f'{{"media_id": "y"}}\n{line}\n{{"media_id": "z"}}\n')
    assert ids(rows) == ["y", None, "z"]
    assert str(rows[1].reason).startswith(reason)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "FILE is empty; its first line must name the columns, at least media_id."),
        ("\n \r\n", "FILE is empty; its first line must name the columns, at least media_id."),
        ("mediaid,languages\n", "FILE: the column 'mediaid' looks like media_id: rename it to media_id, or"),
        ("Media ID\n", "FILE: the column 'Media ID' looks like media_id: rename it to media_id, or leave it out."),
        ("media_id,langauges\n", "FILE: the column 'langauges' looks like languages: rename it to languages"),
        ("call,agent\n", "FILE has no column media_id: its first line has 'call', 'agent'; name the columns there"),
        ("media_id,media_id\n", "FILE has the column media_id more than once; keep one of them."),
        ('media_id,"x\na\n', "FILE, line 1: the quotes do not match"),
        ('[{"media_id": "a"}]', "FILE is a JSON array; write one object on each line instead"),
        (b"media_id,\xff\n", "FILE can't be used, line 1: the line is not UTF-8 text: byte 0xff at 10; save it"),
        ("media_id\n".encode("utf-16"), "FILE is UTF-16 text; save it as UTF-8 (Excel"),
        ("media_id\n".encode("utf-16-le"), "FILE is UTF-16 text; save it as UTF-8 (Excel"),
        ("media_id\n".encode("utf-16-be"), "FILE is UTF-16 text; save it as UTF-8 (Excel"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "FILE is a workbook of an old Excel; export it as CSV"),
        (b"PAR1\x15\x04", "FILE is a Parquet file; export it as CSV or JSON lines."),
        (b"%PDF-1.7\n", "FILE is a PDF document; export"),
        (b"BZh91AY&SY", "FILE is compressed with bzip2; only gzip is read here"),
        (b"media_id,languages\ra,en-US\r", "FILE ends its lines with CR alone"),
        (b'{"media_id": "a"}\r{"media_id": "b"}\r', "FILE ends its lines with CR alone"),
        ('{\n  "media_id": "a"\n}\n', "FILE has a JSON object over several lines; write each on one line"),
        ("media_id;languages\r\na;en-US\r\n", "FILE separates its columns by ';', and only commas do that here: save"),
        ("languages\tmedia_id\na\ten-US\n", "FILE separates its columns by tabs"),
        ("sep=;\r\nmedia_id;languages\r\n", "FILE separates its columns by ';'"),
        (b"PK\x03\x04\x14\x00", "FILE is a workbook or zip archive; export it as CSV (UTF-8)."),
        (b"\x7fELF\x02\x01\x00\x00", "FILE can't be used, line 1: the line holds NUL bytes"),
        (b"x" * (MAX_LINE_BYTES + 1), "FILE can't be used, line 1: the line is longer than 131,072 bytes"),
        (b"\x1f\x8bjunk", "FILE is no whole gzip file: it breaks off or is damaged at its beginning; fetch it again"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_with_one_sentence(
    tmp_path: Path, content: bytes | str, says: str
) -> None:
    assert refusal(tmp_path, content).startswith(says)


def test_a_file_that_is_not_there_or_a_folder_is_refused_before_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist; check the path"):
        read_manifest(tmp_path / "nowhere.csv", DEFAULTS)
    with pytest.raises(InputError, match="is a folder; name one CSV or JSON lines file"):
        read_manifest(tmp_path, DEFAULTS)
    with pytest.raises(InputError, match="can't be opened: embedded null byte"):
        read_manifest("a\0b", DEFAULTS)


def test_a_gzip_file_that_breaks_off_gives_its_rows_and_then_says_where(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv.gz"
    whole = gzip.compress(b"media_id\n" + b"".join(b"%032x\n" % (number * 7919**9) for number in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])
    read: list[Row] = []
    with pytest.raises(InputError) as caught:
        read.extend(read_manifest(path, DEFAULTS))
    assert 100 < len(read) < 5000
    assert f"breaks off or is damaged after line {read[-1].line};" in str(caught.value)


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=8))
def test_whatever_the_cells_hold_each_record_that_is_not_blank_is_judged(cells: list[tuple[str, str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("note", "media_id"), *[(note, f"id{at}") for at, (note, _) in enumerate(cells)]])
    text = buffer.getvalue().encode(errors="replace")
    if b"\0" in text:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        rows = list(read_manifest("-", DEFAULTS))
    assert ids(rows) == [f"id{at}" for at in range(len(cells))]


@given(st.binary(max_size=300))
def test_whatever_the_bytes_are_there_are_rows_or_one_sentence(junk: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"media_id,languages\n" + junk)))
        for row in read_manifest("-", DEFAULTS):
            assert (row.request is None) != (row.reason is None)
            assert len(row.raw) <= 200
            assert row.raw.isprintable()


def rejected(folder: Path, content: bytes | str, name: str = "calls") -> str:
    with RejectedFile(name, folder) as file:
        for row in rows_of(folder, content):
            if row.reason:
                file.add(row)
    return file.path.read_text()


def test_rejected_rows_are_written_with_line_reason_and_the_original_columns(tmp_path: Path) -> None:
    text = rejected(tmp_path, 'note,media_id,languages\nx,a,en-US\n"y, z",b c,\nw,d,x!;y,more\n')
    assert list(csv.reader(text.splitlines())) == [
        ["line", "reason", "note", "media_id", "languages"],
        ["3", "media_id: 'b c' is not an id: printable characters without spaces or slashes", "y, z", "b c", ""],
        [
            "4",
            "the row has 4 cells, the header 3; put a value that holds a comma into quotes",
            "w",
            "d",
            "x!;y",
            "more",
        ],
    ]


def test_a_rejected_file_that_was_corrected_can_be_sent_again(tmp_path: Path) -> None:
    text = rejected(tmp_path, "media_id,languages\na b,en-US\nc,x!\n")
    corrected = text.replace(",a b,", ",a-b,")
    rows = rows_of(tmp_path, corrected, "calls.rejected.csv")
    assert ids(rows) == ["a-b", None]
    again = rejected(tmp_path, corrected, "again")
    assert again.splitlines()[0] == "line,reason,media_id,languages"
    assert again.splitlines()[1].startswith("3,")
    assert again.endswith(",c,x!\n")


def test_a_rejected_json_line_is_kept_by_field_or_whole(tmp_path: Path) -> None:
    text = rejected(
        tmp_path, '{"media_id": "a b", "languages": ["de-DE", "fr-FR"], "speaker_identification": false}\n{"me\n'
    )
    header, by_field, whole = csv.reader(text.splitlines())
    assert header == ["line", "reason", "media_id", "languages", "redaction_policy_id", "speaker_identification"]
    assert by_field[2:] == ["a b", "de-DE;fr-FR", "", "false"]
    assert whole[2:] == ['{"me', "", "", ""]


def test_without_a_bad_row_no_rejected_file_is_made(tmp_path: Path) -> None:
    with RejectedFile("calls", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_rejected_file_of_an_earlier_run_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    rejected(tmp_path, "media_id\nold one\n")
    rejected(tmp_path, "media_id\nnew one\n")
    assert "new one" in (tmp_path / "calls.rejected.csv").read_text()
    assert "old one" in (tmp_path / "calls.rejected.csv.bak").read_text()


def test_a_rejected_file_stands_after_an_error_too(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "media_id\na b\n")
    file = RejectedFile("calls", tmp_path)

    def interrupted() -> None:
        with file:
            file.add(row)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "a b" in file.path.read_text()
    assert file.rows == 1


def test_a_rejected_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "media_id\na b\n")
    with pytest.raises(InputError, match="can't be written: No such file or directory; run in a folder"):
        RejectedFile("calls", tmp_path / "nowhere").add(row)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("calls.csv", "calls"), ("/data/Q3 Calls.CSV.gz", "q3-calls"), ("a.b.jsonl", "a.b"), ("calls.txt", "calls.txt"),
        ("Ärger & Söhne.csv", "rger-s-hne"), ("2026_q3.ndjson.gz", "2026_q3"),
    ],
)  # fmt: skip
def test_a_backfill_is_named_after_its_file(path: str, name: str) -> None:
    assert backfill_name_from(path) == name


@pytest.mark.parametrize("path", ["-", "ÄÖ.csv", ".csv", "...", "", "x" * 65 + ".csv"])
def test_a_file_name_that_makes_no_name_asks_for_one(path: str) -> None:
    with pytest.raises(InputError, match=r"give one with --name\.$"):
        backfill_name_from(path)


def test_a_long_manifest_is_read_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("media_id\n" + "".join(f"{number:032x}\n" for number in range(20_000)))
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_manifest(path, DEFAULTS))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 4_000_000
