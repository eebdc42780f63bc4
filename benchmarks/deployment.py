"""An empty ledger and an empty broker, for what is measured over each kind of ledger."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.intake.postgres import start_postgres
from benchmarks.limiter.contenders import broker
from benchmarks.limiter.stage import Stage


@contextmanager
def deployment(home: Path, kind: str, settings: Mapping[str, str]) -> Iterator[tuple[Stage, Mapping[str, str]]]:
    """A deployment with a ledger of that kind, "sqlite" or "postgresql", and these settings; gives all of them."""
    home.mkdir(mode=0o755)
    with Stage(home) as stage:
        used = {**settings, "RETROSCRIBE_HOME": str(home), "RETROSCRIBE_REDIS_URL": f"unix://{broker(stage)}"}
        if kind == "postgresql":
            used["RETROSCRIBE_DATABASE_URL"] = start_postgres(stage)
        stage.call("workers.cli.main", "migrate", env=used)
        yield stage, used
