"""The scene of what is measured while much work waits: a fleet, and a ledger filled from a list."""

import csv
import tempfile
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.limiter.api import Api
from benchmarks.limiter.contenders import broker, settings_of, wait_for_consumers
from benchmarks.limiter.runs import OURS, Run
from benchmarks.limiter.stage import Stage
from config import queues

RATE: Final = 10
NAME: Final = "waiting"
PARTS: Final = ("pipeline", "control", "index")


@dataclass(frozen=True, slots=True)
class Scene:
    """The processes, the API, and the environment that tells everything else where they are.

    `spare` are media ids that the API knows and that are not on the list.
    """

    stage: Stage
    api: Api
    settings: dict[str, str]
    socket: Path
    spare: list[str]


@contextmanager
def waiting(recordings: int, *, spare: int = 0) -> Iterator[Scene]:
    """A fleet at work on a backfill of so many recordings, at 10 submissions a second, which the API never finishes."""
    # Only the number of its recordings matters of this run: it says how many the API knows.
    known = Run(OURS, "token-bucket", rate=RATE, seconds=(recordings + spare) // RATE + 1)
    with (
        tempfile.TemporaryDirectory(prefix="retroscribe-bench-") as folder,
        chdir(folder),
        Stage(Path(folder)) as stage,
        closing(Api(known, stage)) as api,
    ):
        socket = broker(stage)
        settings = settings_of(stage, api, socket, RATE)
        _start(stage, settings, socket)
        manifest = stage.folder / f"{NAME}.csv"
        with manifest.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["media_id"], *([media_id] for media_id in api.media_ids[:recordings])])
        stage.call("workers.cli.main", "run", str(manifest), "--no-follow", env=settings)
        yield Scene(stage, api, settings, socket, api.media_ids[recordings : recordings + spare])


def _start(stage: Stage, settings: dict[str, str], socket: Path) -> None:
    stage.call("workers.cli.main", "migrate", env=settings)
    for role in PARTS:
        stage.python(role, "workers.cli.main", "worker", "--role", role, env=settings)
    stage.python("beat", "workers.cli.main", "beat", env=settings)
    wait_for_consumers(stage, socket, list(queues.ALL))
