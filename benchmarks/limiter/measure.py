"""One run: everything is started, let go, left alone for its time, and then the sandbox is asked what it counted."""

import os
import tempfile
import time
from contextlib import chdir, closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.limiter.api import Api
from benchmarks.limiter.contenders import CONTENDERS
from benchmarks.limiter.runs import Run
from benchmarks.limiter.stage import BenchmarkFailed, Stage

#: What a run takes beside its own seconds: start, filling, stop; for telling how long all will take.
AROUND_SECONDS: Final = 30
LOOK_EVERY_SECONDS: Final = 0.5


def measure(run: Run) -> dict[str, Any]:
    """The run with a figure a second in each column; nothing of it is left on the machine.

    Raises BenchmarkFailed when a process does not start, or ends before its time.
    """
    with (
        tempfile.TemporaryDirectory(prefix="retroscribe-bench-") as folder,
        chdir(folder),  # where no .env of a real deployment can be read
        Stage(Path(folder)) as stage,
        closing(Api(run, stage)) as api,
    ):
        let_go = CONTENDERS[run.contender](run, stage, api)
        api.begin()
        let_go()
        _watch(run, stage)
        columns = api.series()
    if sum(columns["passed"]) >= run.recordings:
        raise BenchmarkFailed(f"{run.name} ran out of work: {run.recordings} recordings were too few.")
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    load = round(os.getloadavg()[0], 2)
    return {"name": run.name, **asdict(run), "measured_at": measured_at, "load": load, "columns": columns}


def _watch(run: Run, stage: Stage) -> None:
    until = time.monotonic() + run.seconds + 0.1
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_EVERY_SECONDS))
        stage.check()
