"""Podman with a store, networks and settings of its own, so that nobody else's containers are seen or touched."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = ("podman", "runc", "iptables")
HELPERS: Final = ("netavark", "aardvark-dns", "catatonit")
FOLDERS: Final = (
    "/usr/lib/podman",
    "/usr/libexec/podman",
    "/usr/local/lib/podman",
    "/usr/local/libexec/podman",
    "/usr/bin",
)


def missing() -> str | None:
    """Why no containers can be run here, in a sentence; None when they can."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    lacking += [name for name in HELPERS if not any(Path(folder, name).exists() for folder in FOLDERS)]
    if lacking:
        return (
            f"{', '.join(lacking)} not found: `apt-get install {' '.join(PROGRAMS + HELPERS)} debootstrap` brings them"
        )
    if os.geteuid() != 0:
        return "containers with networks between them are run by root here: run this as root"
    if find_spec("podman_compose") is None:
        return "podman-compose is not installed: `make setup` brings it"
    return None


class Engine:
    """One store of images and containers; `close` removes it with everything that it holds."""

    def __init__(self) -> None:
        # A short path: sockets are in it. Not in /tmp, which may be memory: it takes about 1 GB.
        self.folder = Path(tempfile.mkdtemp(prefix="retroscribe-", dir="/var/tmp"))
        self._store = self.folder / "store"
        self._environment = os.environ | {
            "CONTAINERS_CONF": str(self._written("containers.conf", _containers_conf(self._store))),
            "CONTAINERS_STORAGE_CONF": str(self._written("storage.conf", _storage_conf(self._store))),
            # podman-compose is in the virtual environment, which need not be activated.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        for name in list(self._environment):
            # Compose would put them in place of what is in the project's .env.
            if name.startswith(("RETROSCRIBE_", "GENESYS_", "COMPOSE_")):
                del self._environment[name]

    def run(
        self, *command: str, folder: Path | None = None, stdin: str = "", check: bool = True, timeout: float = 600
    ) -> "subprocess.CompletedProcess[str]":
        """Runs the command with these settings to its end; what it said is in the failure."""
        ended = subprocess.run(
            command,
            cwd=folder,
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
        return ended

    def podman(self, *arguments: str, **options: Any) -> str:
        return self.run("podman", *arguments, **options).stdout.strip()

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.podman("inspect", "--type=container", container))[0]
        return found

    def close(self) -> None:
        """Kills all its containers and leaves nothing."""
        self.podman("pod", "rm", "--all", "--force", "--time=0", check=False)
        self.podman("rm", "--all", "--force", "--time=0", check=False)
        self.podman("network", "prune", "--force", check=False)
        self.podman("rmi", "--all", "--force", check=False)
        self.podman("umount", "--all", "--force", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _written(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


def _containers_conf(store: Path) -> str:
    # Left alone, podman asks as root for more open files and processes than root itself may have in a container.
    limits = [
        f"{name}={limit}:{limit}"
        for name, limit in (
            ("nofile", _at_most(16384, resource.RLIMIT_NOFILE)),
            ("nproc", _at_most(4096, resource.RLIMIT_NPROC)),
        )
    ]
    return f"""
[containers]
default_ulimits = {json.dumps(limits)}
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "{store}/networks"
"""


def _at_most(wanted: int, what: int) -> int:
    most = resource.getrlimit(what)[1]
    return wanted if most == resource.RLIM_INFINITY else min(wanted, most)


def _storage_conf(store: Path) -> str:
    return f"""
[storage]
driver = "overlay"
graphroot = "{store}/graph"
runroot = "{store}/run"
"""
