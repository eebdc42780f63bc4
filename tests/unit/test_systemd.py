"""deploy/systemd: what the docs enable is a command, no part is missing, and each may finish its calls."""

import configparser
import re
from pathlib import Path

import pytest
from typer.main import get_command

from config import queues
from workers.cli.main import USAGE, app

HOUSE = Path(__file__).parents[2]
UNITS = HOUSE / "deploy/systemd"
_LINES = re.findall(r"^systemctl enable .*$", (HOUSE / "docs/operations.md").read_text(), re.MULTILINE)
ENABLED = re.findall(r"(retroscribe[\w-]*)@(\w+)", "\n".join(_LINES))
#: A call takes 25 s at most, and a worker promises to be gone 30 s after SIGTERM.
STOPS_WITHIN_SECONDS = 30


def service(unit: str) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign] names keep their case
    parser.read(UNITS / f"{unit}@.service")
    return parser["Service"]


def test_the_docs_enable_a_worker_of_each_role_and_each_other_part() -> None:
    assert sorted(name for unit, name in ENABLED if unit == "retroscribe-worker") == sorted(queues.ROLES)
    assert {name for unit, name in ENABLED if unit == "retroscribe"} == {"beat", "receiver", "flower", "exporter"}


@pytest.mark.parametrize(("unit", "instance"), ENABLED)
def test_the_command_understands_what_the_unit_gives_it(unit: str, instance: str) -> None:
    _, *arguments = service(unit)["ExecStart"].replace("%i", instance).split()

    get_command(app).commands[arguments[0]].make_context(arguments[0], arguments[1:]).close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("unit", sorted({unit for unit, _ in ENABLED}))
def test_a_part_may_finish_and_is_started_again_unless_a_setting_is_wrong(unit: str) -> None:
    assert int(service(unit)["TimeoutStopSec"]) > STOPS_WITHIN_SECONDS
    assert (service(unit)["Restart"], int(service(unit)["RestartPreventExitStatus"])) == ("always", USAGE)
