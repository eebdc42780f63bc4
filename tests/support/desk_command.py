"""The command over the parts that a desk has, in this process: quick, and over the ledger that the test looks at."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.desk import Desk
from workers.cli import common, explain, main, operations


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said, and the exit code with which its process would end."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class DeskCommand:
    """Runs commands without a terminal; what is logged is lost, for logging stays as the tests have it."""

    def __init__(self, desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        monkeypatch.setattr(common, "_resources", lambda: desk.resources)
        for module in (operations, explain):
            monkeypatch.setattr(module, "configure_logging", lambda *_, **__: None)

    def __call__(self, *arguments: str) -> Answer:
        self._capsys.readouterr()
        with capture_logs():
            code = main._run(arguments)
        said = self._capsys.readouterr()
        return Answer(code, said.out, said.err)
