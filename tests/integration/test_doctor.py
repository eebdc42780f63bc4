"""`retroscribe doctor` against real parts, in a process with an environment of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from config.genesys import GenesysSettings
from tests.support.receiver import SECRETS, Receiver, started
from tests.support.sandbox import HOUSE, Sandbox
from tests.support.valkey import Valkey
from workers.cli.doctor import exit_code
from workers.ledger.controls import Halt, set_halt, set_status_route
from workers.ledger.engine import Ledger
from workers.pipeline.checkup import checkup
from workers.pipeline.checkup_http import Reply
from workers.pipeline.finding import Finding, ok, warning, wrong
from workers.receiver.signature import sign

DOCTOR = """
import sys
import typer
from workers.cli import doctor

app = typer.Typer()
app.callback()(lambda: None)
doctor.register(app)
sys.exit(app(standalone_mode=False))
"""
NOBODY = "127.0.0.1:1"
# Asking the workers takes a second, and is not done when the broker is away.
NO_BROKER = f"redis://{NOBODY}/0"
OK = ok("home", "fine")
UNIMPORTANT = warning("redis", "forgetful", "Mend it.")
MISCONFIGURED = wrong("token", "refused", "Mend it.")
MISSING = wrong("redis", "away", "Start it.", unreachable=True)
PARTS = [
    "settings",
    "versions",
    "home",
    "disk",
    "redis",
    "ledger",
    "durability",
    "credentials",
    "api",
    "clocks",
    "token",
    "scopes",
    "halt",
    "results",
    "limits",
    "receiver",
    "workers",
    "beat",
    "inbox",
    "search",
    "flower",
]


@dataclass
class Deployment:
    """A folder and an environment in which all is well but that no worker runs."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def doctor(self, *options: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RETROSCRIBE_", "GENESYS_"))}
        return subprocess.run(
            [sys.executable, "-c", DOCTOR, "doctor", *options],
            env=kept | {"PYTHONPATH": str(HOUSE)} | self.environment | changed,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def checks(self, **changed: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """Exit code and the checks by name."""
        done = self.doctor("--json", **changed)
        assert not done.stderr
        shown = json.loads(done.stdout)
        assert shown["ok"] == (done.returncode == 0)
        return done.returncode, {check["name"]: check for check in shown["checks"]}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path).start()
    with server.client() as client:
        client.config_set("appendonly", "yes")
    yield server
    server.close()


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path) -> Iterator[Receiver]:
    with started(tmp_path_factory.mktemp("receiver"), empty_ledger, NO_BROKER) as running:
        yield running


@pytest.fixture
def deployment(tmp_path: Path, sandbox: Sandbox, empty_ledger: Path, valkey: Valkey, receiver: Receiver) -> Deployment:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_ledger, home)
    ours = {
        "RETROSCRIBE_HOME": str(home),
        "RETROSCRIBE_REDIS_URL": valkey.url,
        "RETROSCRIBE_PUBLIC_URL": receiver.base_url,
        "RETROSCRIBE_WEBHOOK_SECRETS": SECRETS[0].decode(),
        "RETROSCRIBE_FLOWER_PORT": "1",
    }
    return Deployment(tmp_path, sandbox.env | ours)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Finding]]:
    """The findings of a home without parts, in this process; every HTTP request gets the given status."""

    def findings(status: int = 200, **environment: str) -> dict[str, Finding]:
        for name in [name for name in os.environ if name.startswith(("RETROSCRIBE_", "GENESYS_"))]:
            monkeypatch.delenv(name)
        for name, value in ({"RETROSCRIBE_HOME": str(tmp_path / "home")} | environment).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        return {finding.name: finding for finding in checkup(lambda *_: Reply(status), sign)}

    return findings


def states(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: check["state"] for name, check in checks.items()}


def test_only_the_missing_workers_are_wrong_where_all_else_is_well(deployment: Deployment) -> None:
    code, checks = deployment.checks()

    assert states(checks) == dict.fromkeys(PARTS, "ok") | {"workers": "wrong", "beat": "warning"}
    assert list(checks) == PARTS
    assert "retroscribe.submit" in checks["workers"]["found"]
    assert "--role pipeline" in checks["workers"]["fix"]
    assert code == 4


def test_a_wrong_secret_is_named_and_not_shown(deployment: Deployment) -> None:
    done = deployment.doctor(GENESYS_CLIENT_SECRET="hunter2-is-not-it")

    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines] == PARTS
    token = lines[PARTS.index("token")]
    assert token.startswith("wrong")
    assert "GENESYS_CLIENT_SECRET" in token
    assert "hunter2" not in done.stdout + done.stderr
    assert done.returncode == 2


def test_an_api_out_of_reach_is_wrong_and_closes_no_gate(deployment: Deployment) -> None:
    code, checks = deployment.checks(GENESYS_BASE_URL=f"http://{NOBODY}", RETROSCRIBE_BROKER_URL=NO_BROKER)

    assert checks["api"]["state"] == "wrong"
    assert NOBODY in checks["api"]["found"]
    assert checks["token"]["found"].startswith("not checked")
    assert checks["limits"]["state"] == "ok"
    assert code == 4


def test_redis_out_of_reach_is_wrong_without_its_password_and_what_needs_it_says_so(deployment: Deployment) -> None:
    code, checks = deployment.checks(RETROSCRIBE_REDIS_URL=f"redis://:hunter2@{NOBODY}/0")

    assert f"redis://***@{NOBODY}/0" in checks["redis"]["found"]
    assert "hunter2" not in str(checks)
    assert {name for name, check in checks.items() if "redis must be right" in check["found"]} == {
        "token",
        "limits",
        "workers",
    }
    assert code == 4


def test_a_ledger_without_tables_is_to_be_migrated(deployment: Deployment) -> None:
    empty = deployment.folder / "empty.sqlite3"
    empty.touch()

    code, checks = deployment.checks(RETROSCRIBE_DATABASE_URL=f"sqlite:///{empty}", RETROSCRIBE_BROKER_URL=NO_BROKER)

    assert "no tables" in checks["ledger"]["found"]
    assert "retroscribe migrate" in checks["ledger"]["fix"]
    assert checks["halt"]["found"].startswith("not checked")
    assert code == 4


def test_a_mistyped_variable_is_a_warning_with_the_closest_name(deployment: Deployment) -> None:
    _, checks = deployment.checks(RETROSCRIBE_SUBMITLIMIT="5", RETROSCRIBE_BROKER_URL=NO_BROKER)

    assert checks["settings"]["state"] == "warning"
    assert "RETROSCRIBE_SUBMITLIMIT is no setting" in checks["settings"]["found"]
    assert "RETROSCRIBE_SUBMIT_LIMIT" in checks["settings"]["found"]
    assert checks["ledger"]["state"] == "ok"


def test_a_wrong_setting_is_named_without_its_password_and_nothing_else_is_checked(
    here: Callable[..., dict[str, Finding]],
) -> None:
    found = here(RETROSCRIBE_DATABASE_URL="postgres://me:hunter2@host/name")

    assert {name: finding.state for name, finding in found.items()} == dict.fromkeys(PARTS, "warning") | {
        "settings": "wrong"
    }
    assert found["settings"].found.startswith("RETROSCRIBE_DATABASE_URL: must begin with")
    assert "hunter2" not in str(found)


def test_a_missing_client_id_is_a_wrong_setting(here: Callable[..., dict[str, Finding]]) -> None:
    found = here(GENESYS_CLIENT_ID="")["credentials"]

    assert found.is_wrong
    assert not found.unreachable
    assert "GENESYS_CLIENT_ID is not set" in found.found


def test_a_standing_halt_is_wrong_with_its_reason(
    tmp_path: Path, empty_ledger: Path, here: Callable[..., dict[str, Finding]]
) -> None:
    now = time.time()
    url = f"sqlite:///{shutil.copy(empty_ledger, tmp_path)}"
    ledger = Ledger(url)
    with ledger.write() as tx:
        halt = Halt("ScopeMissing", "The scope is missing.", "submit", now, now + 60)
        set_halt(tx, GenesysSettings(client_id="me").client_key, halt)
    ledger.close()

    found = here(RETROSCRIBE_DATABASE_URL=url, GENESYS_CLIENT_ID="me", GENESYS_CLIENT_SECRET="hunter2")["halt"]

    assert found.is_wrong
    assert "ScopeMissing" in found.found
    assert "The scope is missing." in found.found


def test_without_webhooks_and_status_route_it_says_that_nothing_can_come_back(
    here: Callable[..., dict[str, Finding]], empty_ledger: Path, tmp_path: Path
) -> None:
    url, base_url = f"sqlite:///{shutil.copy(empty_ledger, tmp_path)}", "https://api.invalid"
    ledger = Ledger(url)
    with ledger.write() as tx:
        client_key = GenesysSettings(base_url=base_url, client_id="me").client_key
        set_status_route(tx, client_key, works=False, why="HTTP 405")
    ledger.close()

    found = here(
        RETROSCRIBE_DATABASE_URL=url,
        GENESYS_BASE_URL=base_url,
        GENESYS_CLIENT_ID="me",
        GENESYS_CLIENT_SECRET="hunter2",
    )["results"]

    assert found.is_wrong
    assert "RETROSCRIBE_PUBLIC_URL" in (found.fix or "")


def test_no_public_address_is_a_warning_that_says_polling_only(here: Callable[..., dict[str, Finding]]) -> None:
    found = here(GENESYS_BASE_URL="https://api.mypurecloud.com")["receiver"]

    assert found.state == "warning"
    assert "polling only" in found.found


def test_a_server_that_is_not_the_receiver_is_wrong(here: Callable[..., dict[str, Finding]]) -> None:
    found = here(status=404, RETROSCRIBE_PUBLIC_URL="http://localhost:1")["receiver"]

    assert found.is_wrong
    assert "HTTP 404" in found.found


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([OK, UNIMPORTANT], 0),
        ([OK, MISCONFIGURED, MISSING], 2),
        ([UNIMPORTANT, MISSING, MISCONFIGURED], 4),
    ],
)
def test_the_first_wrong_finding_decides_the_exit_code(findings: list[Finding], code: int) -> None:
    assert exit_code(findings) == code
