"""What the integration tests of the command share."""

import pytest

from tests.support.desk import Desk
from tests.support.desk_command import DeskCommand


@pytest.fixture
def command(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> DeskCommand:
    """The command over the desk's parts, in this process."""
    return DeskCommand(desk, monkeypatch, capsys)
