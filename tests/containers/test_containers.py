"""docker-compose.yml in real containers: the demo, and production with the API's stand-in beside it."""

import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from config import queues
from tests.conftest import free_port
from tests.containers.engine import Engine
from tests.containers.images import compose_file
from tests.containers.project import Project
from tests.support.eventually import eventually
from tests.support.sandbox import NO_TLS
from tests.support.sandbox_calls import GOOD, IDS

pytestmark = pytest.mark.slow

ASKED = IDS[:150]
USABLE = set(ASKED) & set(GOOD)
WORKERS = [f"worker-{role}" for role in queues.ROLES]
#: A recording whose submission a killed worker had in hand is decided in half a minute, not after two hours.
DECIDED_SOON = {
    "RETROSCRIBE_SUBMIT_LEASE_SECONDS": "30",
    "RETROSCRIBE_UNKNOWN_AFTER_SECONDS": "5",
    "RETROSCRIBE_UNKNOWN_POLICY": "resubmit",
}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def project(engine: Engine, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """All services up and healthy, by the lines that compose.env.example has for the stand-in."""
    settings = {
        "VALKEY_PASSWORD": secrets.token_hex(24),
        "POSTGRES_PASSWORD": secrets.token_hex(24),
        "GENESYS_BASE_URL": "http://receiver:8900",
        "GENESYS_CLIENT_ID": "sandbox-client",
        "GENESYS_CLIENT_SECRET": "sandbox-secret",
        "RETROSCRIBE_WEBHOOK_SECRETS": secrets.token_hex(32),
        "RETROSCRIBE_PUBLIC_URL": "http://127.0.0.1:8000",
        "RECEIVER_PUBLISHED": f"127.0.0.1:{port}",
        **DECIDED_SOON,
    }
    env = "".join(f"{name}={value}\n" for name, value in settings.items())
    started = Project(engine, tmp_path_factory.mktemp("project"), "production", "sandbox", env=env)
    started.up()
    for service in started.services():
        eventually(lambda service=service: started.healthy(service), 90, f"health of {service}")
    yield started
    started.compose("down", "--volumes", "--timeout=0", check=False)


def test_the_demo_profile_runs_the_demo_to_its_end_without_a_setting_or_a_network(
    engine: Engine, tmp_path: Path
) -> None:
    project = Project(engine, tmp_path, "demo", env="DEMO_COUNT=40\n")

    said = project.compose("up", "--no-build").stdout

    assert "requested 40, indexed 39, lost 0" in said, said
    assert "0 of them twice" in said
    demo = project.inspect("demo")
    assert demo["State"]["ExitCode"] == 0
    assert demo["HostConfig"]["NetworkMode"] == "none"
    assert demo["HostConfig"]["ReadonlyRootfs"]
    project.compose("down", "--volumes")


def test_a_backfill_survives_a_killed_worker_and_is_shared_with_a_second_one(project: Project) -> None:
    project.command("run", "-", "--name=calls", "--no-follow", stdin="\n".join(["media_id", *ASKED]))
    eventually(lambda: status(project)["states"]["indexed"] >= 10, 90, "the first transcripts")

    before = project.inspect("worker-pipeline")["State"]["Pid"]
    project.process("worker-pipeline").send_signal(signal.SIGKILL)
    eventually(lambda: project.inspect("worker-pipeline")["State"]["Pid"] not in (0, before), 30, "a new start of it")
    project.scale("worker-pipeline", 2)
    eventually(lambda: project.healthy("worker-pipeline", 2), 60, "health of the second")

    eventually(lambda: status(project)["active"] == 0, 180, "the end of the backfill")
    ended = status(project)
    states = {state: number for state, number in ended["states"].items() if number}
    assert states == {"indexed": len(USABLE), "rejected": len(ASKED) - len(USABLE)}, ended
    assert stats(project)["accepted"] == dict.fromkeys(USABLE, 1)
    for number in (1, 2):
        assert "recording_submitted" in project.logs("worker-pipeline", number)
    assert project.json("search", "the refund")["total"] > 0


def test_webhooks_came_through_the_receiver(project: Project) -> None:
    assert '"verdict": "accepted"' in project.logs("receiver")


def test_only_the_receiver_is_published_and_it_answers_there(project: Project, port: int) -> None:
    published = {service: project.inspect(service)["HostConfig"]["PortBindings"] for service in project.services()}

    assert [service for service, ports in published.items() if ports] == ["receiver"]
    assert httpx.get(f"http://127.0.0.1:{port}/readyz", verify=NO_TLS, trust_env=False).json() == {"status": "ok"}


@pytest.mark.parametrize("service", ["valkey", "postgres", "beat", "flower"])
def test_what_needs_no_api_has_no_way_out(project: Project, service: str) -> None:
    routes = project.inside(service, "cat", "/proc/net/route").stdout.splitlines()[1:]

    assert routes
    assert not [route for route in routes if route.split()[1] == "00000000"]


@pytest.mark.parametrize("service", [*WORKERS, "beat", "receiver", "flower", "sandbox"])
def test_our_containers_run_as_nobody_in_particular_on_a_file_system_that_they_cannot_write(
    project: Project, service: str
) -> None:
    assert project.inside(service, "id", "-u").stdout.strip() == "10001"
    refused = project.inside(service, "touch", "/opt/retroscribe/mark", check=False)
    assert refused.returncode != 0
    assert "Read-only file system" in refused.stderr
    assert project.inside(service, "sed", "-n", "s/^CapEff:\t//p", "/proc/1/status").stdout.strip().strip("0") == ""


def test_a_worker_that_hangs_is_unhealthy_and_healthy_again_when_it_goes_on(project: Project) -> None:
    """It is stopped, and its last sign of life made old, so that nobody has to wait for that."""
    process = project.process("worker-live")
    process.suspend()
    project.inside("worker-live", "touch", "--date=1 minute ago", "/tmp/alive")  # noqa: S108 the container's own
    assert not project.healthy("worker-live")

    process.resume()
    eventually(lambda: project.healthy("worker-live"), what="health of the worker")


def test_every_service_of_the_file_is_tried_here_but_the_search_engine(project: Project) -> None:
    assert set(compose_file()["services"]) - set(project.services()) == {"demo", "migrate", "cli", "opensearch"}


def test_the_stop_of_all_reaches_each_part_and_each_ends_by_itself(project: Project) -> None:
    services = project.services()

    project.compose("stop")

    codes = {service: project.inspect(service)["State"]["ExitCode"] for service in services}
    assert codes == dict.fromkeys(services, 0)


def status(project: Project) -> dict[str, Any]:
    return project.json("status", "calls")


def stats(project: Project) -> dict[str, Any]:
    """The stand-in's own count, asked from a container beside it."""
    ask = "import json, urllib.request as http; print(http.urlopen('http://receiver:8900/_sandbox/stats').read().decode())"
    found: dict[str, Any] = httpx.Response(200, text=project.inside("worker-index", "python", "-c", ask).stdout).json()
    return found
