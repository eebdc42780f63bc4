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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
class TestOffered:
    def test_backfills_by_their_beginning(
        self, desk: Desk, environment: dict[str, str], tmp_path: Path, shell: str
    ) -> None:
        for name in ("2026-q3", "2026-q4", "other_100%"):
            desk.ask(["m-1"], backfill=name)

        for line in ("status", "list", "export", "retry"):
            assert words(completed(shell, f"retroscribe {line} 2026", tmp_path, **environment)) == {
                "2026-q3",
                "2026-q4",
            }
        assert words(completed(shell, "retroscribe list other_", tmp_path, **environment)) == {"other_100%"}

    def test_commands_states_and_reasons(self, tmp_path: Path, shell: str) -> None:
        def offered(line: str) -> set[str]:
            return words(completed(shell, line, tmp_path))

        assert {"status", "search", "schema", "sandbox"} == offered("retroscribe s")
        assert offered("retroscribe list q3 --state ") == set(State)
        assert offered("retroscribe list q3 --reason over") == {"overdue"}

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"RETROSCRIBE_SUBMIT_LIMIT": "fast"},
            {"RETROSCRIBE_DATABASE_URL": "nonsense"},
            {"RETROSCRIBE_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"},
        ],
        ids=["no home", "a wrong setting", "no URL", "a server"],
    )
    def test_nothing_and_no_error_where_there_is_no_such_ledger_and_no_home_is_made(
        self, tmp_path: Path, shell: str, settings: dict[str, str]
    ) -> None:
        answer = completed(shell, "retroscribe status 2026", tmp_path, **settings)

        assert (answer.stderr, words(answer) - {"_files"}) == ("", set())
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_no_ledger_is_no_error(self, tmp_path: Path, shell: str) -> None:
        (tmp_path / "notes").write_text("not a database")

        answer = completed(
            shell, "retroscribe list 2026", tmp_path, RETROSCRIBE_DATABASE_URL=f"sqlite:///{tmp_path}/notes"
        )

        assert (answer.stderr, words(answer) - {"_files"}) == ("", set())


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
