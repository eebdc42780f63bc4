"""docker-compose.yml brought up in a folder of its own, with a `.env` of its own."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import psutil

from tests.containers.engine import Engine
from tests.containers.images import HOUSE, compose_file
from tests.support.eventually import eventually

ONE_SHOT: Final = frozenset({"migrate", "cli"})


class Project:
    """The services of some profiles; never a `.env` of the developer's, which may name a real API."""

    def __init__(self, engine: Engine, folder: Path, *profiles: str, env: str = "") -> None:
        self._engine = engine
        self._folder = folder
        self._profiles = profiles
        shutil.copy(HOUSE / "docker-compose.yml", folder)
        folder.joinpath(".env").write_text(env)

    def compose(self, *arguments: str, profiles: tuple[str, ...] = (), **options: Any) -> Any:
        """What the command said and its exit code."""
        profiles = tuple(f"--profile={profile}" for profile in profiles or self._profiles)
        return self._engine.run("podman-compose", *profiles, *arguments, folder=self._folder, **options)

    def up(self) -> None:
        """Brings up everything, each service when what it depends on is as the file says.

        podman-compose can't wait for that with a podman older than 4.6.
        """
        waiting = self._wanted()
        there: set[str] = set()
        while waiting:
            ready = [name for name, service in waiting.items() if service.get("depends_on", {}).keys() <= there]
            assert ready, f"these wait for each other: {sorted(waiting)}"
            for name in ready:
                for other, wanted in waiting.pop(name).get("depends_on", {}).items():
                    self._wait_for(other, wanted["condition"])
            self.compose("up", "--detach", "--no-build", "--no-deps", *ready)
            there.update(ready)

    def scale(self, service: str, number: int) -> None:
        self.compose("up", "--detach", "--no-build", "--no-deps", f"--scale={service}={number}", service)

    def services(self) -> list[str]:
        """Those that keep running."""
        return [name for name in self._wanted() if name not in ONE_SHOT]

    def name(self, service: str, number: int = 1) -> str:
        label = f"label=com.docker.compose.service={service}"
        names = self._engine.podman("ps", "--all", f"--filter={label}", "--format={{.Names}}").split()
        return sorted(names)[number - 1]

    def inspect(self, service: str, number: int = 1) -> dict[str, Any]:
        return self._engine.inspect(self.name(service, number))

    def healthy(self, service: str, number: int = 1) -> bool:
        """What the service's own health check says now: only under systemd does podman ask it by itself."""
        asked = self._engine.run("podman", "healthcheck", "run", self.name(service, number), check=False)
        return asked.returncode == 0

    def inside(self, service: str, *command: str, number: int = 1, check: bool = True) -> Any:
        """Runs a command in a container of the service."""
        return self._engine.run("podman", "exec", self.name(service, number), *command, check=check)

    def process(self, service: str, number: int = 1) -> psutil.Process:
        """The part itself, seen from outside: the child of the container's init."""
        init = psutil.Process(self.inspect(service, number)["State"]["Pid"])
        return eventually(init.children, 10, f"a process in {service}")[0]

    def logs(self, service: str, number: int = 1) -> str:
        ended = self._engine.run("podman", "logs", self.name(service, number))
        return ended.stdout + ended.stderr

    def command(self, *arguments: str, stdin: str = "") -> str:
        """What the `retroscribe` command says in a container of its own."""
        said: str = self.compose("run", "--rm", "-T", "cli", *arguments, profiles=("cli",), stdin=stdin).stdout
        return said

    def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.command(*arguments, "--json"))
        return found

    def _wanted(self) -> dict[str, Any]:
        services = compose_file()["services"].items()
        return {name: service for name, service in services if set(self._profiles) & set(service["profiles"])}

    def _wait_for(self, service: str, condition: str) -> None:
        if condition == "service_healthy":
            eventually(lambda: self.healthy(service), 120, f"health of {service}")
        elif condition == "service_completed_successfully":
            ended = eventually(lambda: self._ended(service), 120, f"the end of {service}")
            assert ended["ExitCode"] == 0, self.logs(service)
        else:
            assert condition == "service_started"

    def _ended(self, service: str) -> dict[str, Any] | None:
        state: dict[str, Any] = self.inspect(service)["State"]
        return state if state["Status"] == "exited" else None
