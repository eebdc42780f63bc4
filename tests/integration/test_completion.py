"""What a shell gets when somebody presses the tab key: asked as bash, zsh and fish ask it, in a process of its own."""

import subprocess
from pathlib import Path

import pytest

from tests.support.command import bare_environment, command
from tests.support.desk import Desk
from workers.model import State


def completed(shell: str, line: str, folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """What the shell's completion function runs for a line that ends at the cursor."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    return subprocess.run(
        command(),
        cwd=folder,
        env=bare_environment(**settings, _RETROSCRIBE_COMPLETE=f"complete_{shell}", **asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def words(answer: "subprocess.CompletedProcess[str]") -> set[str]:
    """The words that are offered, in whatever form the shell wants them."""
    assert answer.stderr == ""
    said = answer.stdout.replace("_arguments '*: :((", "").replace("))'", "")
    return {line.strip('"').partition("\t")[0].partition('":')[0] for line in said.split("\n") if line}


@pytest.fixture
def some_backfills(desk: Desk) -> None:
    for name in ("2026-q3", "2026-q4", "other_100%"):
        desk.ask(["m-1"], backfill=name)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.usefixtures("some_backfills")
def test_each_shell_gets_backfills_by_their_beginning_and_states(
    environment: dict[str, str], tmp_path: Path, shell: str
) -> None:
    names = completed(shell, "retroscribe status 2026", tmp_path, **environment)
    states = completed(shell, "retroscribe list 2026-q3 --state ", tmp_path, **environment)

    assert (words(names), words(states)) == ({"2026-q3", "2026-q4"}, set(State))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("retroscribe s", {"status", "search", "show", "schema", "sandbox"}),
        ("retroscribe list other_", {"other_100%"}),
        ("retroscribe export other_", {"other_100%"}),
        ("retroscribe retry other_", {"other_100%"}),
        ("retroscribe resolve other_", {"other_100%"}),
        ("retroscribe list 2026-q3 --reason over", {"overdue"}),
    ],
)
@pytest.mark.usefixtures("some_backfills")
def test_commands_names_and_reasons_are_offered(
    environment: dict[str, str], tmp_path: Path, line: str, offered: set[str]
) -> None:
    assert words(completed("bash", line, tmp_path, **environment)) == offered


@pytest.mark.parametrize(
    ("shell", "settings"),
    [
        ("bash", {}),
        ("zsh", {}),
        ("fish", {}),
        ("bash", {"RETROSCRIBE_SUBMIT_LIMIT": "fast"}),
        ("bash", {"RETROSCRIBE_DATABASE_URL": "nonsense"}),
        ("bash", {"RETROSCRIBE_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"}),
        ("bash", {"RETROSCRIBE_DATABASE_URL": f"sqlite:///{__file__}"}),
    ],
)
def test_nothing_and_no_error_where_there_is_no_ledger_to_ask_and_no_home_is_made(
    tmp_path: Path, shell: str, settings: dict[str, str]
) -> None:
    answer = completed(shell, "retroscribe status 2026", tmp_path, **settings)

    assert words(answer) - {"_files"} == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o default -F"), ("zsh", "#compdef retroscribe"), ("fish", "complete ")]
)
def test_the_script_of_each_shell_asks_by_the_same_means(tmp_path: Path, shell: str, sign: str) -> None:
    script = subprocess.run(
        command(),
        cwd=tmp_path,
        env=bare_environment(_RETROSCRIBE_COMPLETE=f"source_{shell}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout

    assert sign in script
    assert f"_RETROSCRIBE_COMPLETE=complete_{shell}" in script
