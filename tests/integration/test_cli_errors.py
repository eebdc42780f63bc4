"""What a newcomer reads when something is wrong: one sentence with the next step, and the documented exit code."""

import json
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import bare_environment, command, run_command
from tests.support.json_schema import is_valid
from workers.intake.entries import message_schema

USAGE, UNREACHABLE = 2, 4
NOBODY = "redis://127.0.0.1:1/0"
CREDENTIALS = "GENESYS_CLIENT_ID is not set"
HEADER = "media_id,languages\n"
EXAMPLE = {
    "backfill": "2026-q3",
    "lane": "backfill",
    "defaults": {"languages": ["en-US", "es-ES"], "redaction_policy_id": None, "speaker_identification": True},
    "recordings": [{"media_id": "a1b2"}, {"media_id": "c3d4", "languages": ["de-DE"]}],
}


@pytest.fixture
def folder(tmp_path: Path, empty_ledger: Path) -> Path:
    """A folder with a home in which nothing runs."""
    home = tmp_path / ".retroscribe"
    home.mkdir()
    shutil.copy(empty_ledger, home / "ledger.sqlite3")
    return tmp_path


def said(answer: "subprocess.CompletedProcess[str]") -> str:
    """The one sentence on standard error."""
    assert "Traceback" not in answer.stdout + answer.stderr
    assert "fault of Retroscribe" not in answer.stderr, answer.stderr
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("retroscribe: ")
    assert lines[0].endswith(".")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nope"], USAGE, "No such command 'nope'"),
        (["status", "--nope"], USAGE, "No such option: --nope"),
        (["status"], UNREACHABLE, "There is no ledger at {folder}/.retroscribe/ledger.sqlite3"),
        (["up"], USAGE, CREDENTIALS),
        (["worker", "--role", "pipeline"], USAGE, CREDENTIALS),
        (["run"], USAGE, "Name a file"),
        (["run", "a.csv", "--media-id", "m"], USAGE, "Name a file"),
        (["run", "missing.csv"], USAGE, "missing.csv does not exist"),
        (["run", "-"], USAGE, "give one with --name"),
        (["run", "good.csv", "--languages", "english!"], USAGE, "'english!' is not a BCP 47 tag"),
    ],
)
def test_given_no_home_and_wrong_use_then_one_sentence_says_so_and_no_home_is_made(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    (tmp_path / "good.csv").write_text(f"{HEADER}m-1,\n")

    answer = run_command(*arguments, folder=tmp_path)

    assert sentence.format(folder=tmp_path) in said(answer)
    assert answer.returncode == code
    assert arguments == ["up"] or answer.stdout == ""
    assert not (tmp_path / ".retroscribe" / "ledger.sqlite3").exists() or arguments[0] == "worker"


def test_the_version_is_told(tmp_path: Path) -> None:
    answer = run_command("--version", folder=tmp_path)

    assert (answer.returncode, answer.stdout) == (0, f"retroscribe {version('retroscribe')}\n")


def test_help_is_broken_where_the_screen_ends_and_not_where_our_lines_do(tmp_path: Path) -> None:
    lines = run_command("run", "--help", folder=tmp_path, COLUMNS="80").stdout.splitlines()

    assert any("and after a canary of which too many failed" in line for line in lines)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"id,languages\nm-1,en-US\n", "has no column media_id"),
        (b"", "is empty"),
        (HEADER.encode(), "names no recordings"),
    ],
    ids=["no media_id", "empty", "header only"],
)
def test_given_a_list_that_cannot_be_used_then_one_sentence_says_why(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "calls.csv").write_bytes(content)

    answer = run_command("run", "calls.csv", folder=tmp_path)

    assert sentence in said(answer)
    assert answer.returncode == USAGE
    assert not (tmp_path / ".retroscribe").exists()


def test_given_a_list_with_bad_lines_and_no_workers_then_the_rest_is_stored_and_all_of_it_said(folder: Path) -> None:
    (folder / "calls.csv").write_bytes(
        HEADER.encode() + b"with/slash,\n[bold]good[-bold],\nm-3,no-such-language-at-all-123\nm-\xff,\nm-5,es-ES\n"
    )

    first = run_command("run", "calls.csv", folder=folder)
    again = run_command("run", "calls.csv", "--languages", "de-DE", folder=folder)
    shown = run_command("status", "calls", folder=folder)

    assert first.returncode == UNREACHABLE
    assert "Traceback" not in first.stderr
    lines = first.stderr.splitlines()
    assert lines[0].startswith("line 2: media_id: 'with/slash' is not an id")
    assert lines[1].startswith("line 4: languages: 'no-such-language-at-all-123' is not a BCP 47 tag")
    assert lines[2].startswith("line 5: the line is not UTF-8 text")
    assert lines[3] == "calls: 2 new, 0 asked for before, 3 unusable"
    assert f"{folder}/calls.rejected.csv" in lines[4]
    assert lines[5].startswith(f"No Retroscribe runs with the home {folder}/.retroscribe: start `retroscribe up`")
    assert "The recordings are stored" in lines[5]
    rejected = (folder / "calls.rejected.csv").read_text().splitlines()
    assert rejected[0] == "line,reason,media_id,languages"
    assert [line.partition(",")[0] for line in rejected[1:]] == ["2", "4", "5"]
    assert (again.returncode, "exists with languages" in said(again)) == (USAGE, True)
    assert (shown.returncode, re.search(r"pending +2\b", shown.stdout) is not None) == (0, True)


def test_given_a_broker_away_then_the_recording_is_stored_and_the_broker_named(folder: Path) -> None:
    answer = run_command("run", "--media-id", "m-1", folder=folder, RETROSCRIBE_REDIS_URL=NOBODY)

    assert answer.returncode == UNREACHABLE
    (line,) = answer.stderr.splitlines()
    assert line.startswith("The broker does not answer")
    assert "RETROSCRIBE_BROKER_URL" in line
    assert "The recordings are stored" in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["status", "NOPE"], "There is no backfill 'NOPE'"),
        (["search", ""], "The query has nothing to find"),
        (["run", "--media-id", "a b"], "'a b' is not an id"),
    ],
)
def test_given_a_home_and_wrong_values_then_one_sentence_names_them(
    folder: Path, arguments: list[str], sentence: str
) -> None:
    answer = run_command(*arguments, folder=folder)

    assert sentence in said(answer)
    assert answer.returncode == USAGE


def test_given_a_wrong_setting_then_it_is_named(tmp_path: Path) -> None:
    answer = run_command("status", folder=tmp_path, RETROSCRIBE_SUBMIT_LIMIT="fast")

    assert "RETROSCRIBE_SUBMIT_LIMIT (it is 'fast'): must be a valid number" in said(answer)
    assert answer.returncode == USAGE


def test_given_a_home_that_is_no_folder_then_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    answer = run_command("run", "--media-id", "m-1", folder=tmp_path, RETROSCRIBE_HOME="taken")

    assert f"{tmp_path}/taken can't be used" in said(answer)
    assert answer.returncode == USAGE


def test_given_another_config_on_the_path_then_the_culprit_is_named(tmp_path: Path) -> None:
    culprit = tmp_path / "config.py"
    culprit.write_text("")

    answer = run_command("status", folder=tmp_path)

    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert f"'config' belongs to {culprit}" in answer.stderr


def test_given_a_reader_that_hangs_up_then_the_command_ends_well_and_in_silence(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("schema"), cwd=tmp_path, env=bare_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()

    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(30)) == (b"", 0)
    process.stderr.close()


class TestSchema:
    def test_given_the_command_then_it_prints_the_schema(self, tmp_path: Path) -> None:
        answer = run_command("schema", folder=tmp_path)

        assert (json.loads(answer.stdout), answer.returncode) == (message_schema(), 0)

    def test_given_the_documented_example_then_it_is_valid(self) -> None:
        assert is_valid(EXAMPLE, message_schema())

    @pytest.mark.parametrize(
        "change",
        [
            {"recordings": [{"media_id": "a/b"}]},
            {"recordings": [{"languages": ["en-US"]}]},
            {"recordings": "a1b2"},
            {"backfill": "Has Spaces"},
            {"lane": "fast"},
            {"defaults": {"language": "en-US"}},
        ],
    )
    def test_given_a_message_that_is_wrong_then_it_is_not_valid(self, change: dict[str, Any]) -> None:
        assert not is_valid(EXAMPLE | change, message_schema())
