"""The embedded stack in processes of its own, against a sandbox that limits nothing and finishes soon."""

import csv
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.limiter.contenders import broker, wait_for_consumers
from benchmarks.limiter.stage import BenchmarkFailed, Stage
from config import queues
from workers.sandbox.catalogue import Catalogue

SEED: Final = 1
NAME: Final = "whole"
#: Far above what is reached, and still a window of work that the broker holds easily.
LIMIT: Final = 500
SERVER_LIMIT: Final = 50_000
PROCESSING_SECONDS: Final = 0.5
#: Of a hundred recordings of the catalogue some are missing or can't be transcribed.
SPARE: Final = 1.3
SANDBOX: Final = "sandbox"
BROKER: Final = "valkey"
WORKERS: Final = tuple(queues.ROLES)
PARTS: Final = (*WORKERS, "receiver", "beat", "flower")


@dataclass(frozen=True, slots=True)
class Scene:
    """The processes, and the ledger in which they count."""

    stage: Stage
    settings: dict[str, str]
    ledger: Path
    manifest: Path

    def indexed(self) -> int:
        """How many recordings have gone the whole way."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=10)) as reader:
            return int(reader.execute("SELECT count(*) FROM recordings WHERE state = 'indexed'").fetchone()[0])

    def states(self) -> dict[str, int]:
        """How many recordings are in each state."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=10)) as reader:
            return dict(reader.execute("SELECT state, count(*) FROM recordings GROUP BY state").fetchall())

    def begin(self) -> None:
        """Takes the list in, from which on the fleet works on it."""
        self.stage.call("workers.cli.main", "run", str(self.manifest), "--no-follow", env=self.settings)


@contextmanager
def embedded(recordings: int) -> Iterator[Scene]:
    """A whole stack with nothing to do, and a list of so many usable recordings."""
    with TemporaryDirectory(prefix="retroscribe-bench-") as name, chdir(name), Stage(Path(name)) as stage:
        folder = Path(name)
        count = int(recordings * SPARE) + 100
        api = _sandbox(stage, count)
        unix_socket = broker(stage)
        settings = {
            **api,
            "RETROSCRIBE_HOME": name,
            "RETROSCRIBE_REDIS_URL": f"unix://{unix_socket}",
            "RETROSCRIBE_RECEIVER_PORT": str(_free_port()),
            "RETROSCRIBE_FLOWER_PORT": str(_free_port()),
            "RETROSCRIBE_METRICS_PORT": "0",
            **{f"RETROSCRIBE_{call}_LIMIT": str(LIMIT) for call in ("SUBMIT", "MEDIA", "STATUS")},
        }
        stage.call("workers.cli.main", "migrate", env=settings)
        for role in WORKERS:
            stage.python(role, "workers.cli.main", "worker", "--role", role, env=settings)
        stage.python("receiver", "workers.cli.main", "receiver", env=settings)
        wait_for_consumers(stage, unix_socket, list(queues.ALL))
        for part in ("beat", "flower"):
            stage.python(part, "workers.cli.main", part, env=settings)
        yield Scene(stage, settings, folder / "ledger.sqlite3", _manifest(folder, count, recordings))


def _sandbox(stage: Stage, count: int) -> dict[str, str]:
    options = {"port": 0, "rate": SERVER_LIMIT, "seed": SEED, "count": count, "processing-seconds": PROCESSING_SECONDS}
    stage.python(SANDBOX, "workers.sandbox", *(f"--{name}={value}" for name, value in options.items()), env={})
    told: dict[str, str] = {}

    def announced() -> bool:
        found = (re.match(r"export (GENESYS_\w+)=(\S+)", line) for line in stage.said(SANDBOX))
        told.update({match[1]: match[2] for match in found if match})
        return len(told) == 3

    stage.wait_for(announced, "The start of the sandbox")
    return told


def _manifest(folder: Path, count: int, recordings: int) -> Path:
    catalogue = Catalogue(SEED, count)
    known = (catalogue.media(media_id) for media_id in catalogue.media_ids())
    usable = list(islice((media.media_id for media in known if media and media.usable), recordings))
    if len(usable) < recordings:
        raise BenchmarkFailed(f"The sandbox's catalogue has only {len(usable)} usable recordings: raise SPARE.")
    path = folder / f"{NAME}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["media_id"], *([media_id] for media_id in usable)])
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
