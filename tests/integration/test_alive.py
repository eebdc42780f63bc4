"""The sign of life that health checks look for."""

from pathlib import Path

import pytest
import redis

from tests.support.command import running_command
from tests.support.eventually import eventually


@pytest.mark.parametrize("part", [("worker", "--role", "live"), ("beat",)], ids=["worker", "beat"])
def test_a_part_shows_again_and_again_that_it_is_alive(
    part: tuple[str, ...], environment: dict[str, str], broker: redis.Redis, tmp_path: Path
) -> None:
    sign, log = tmp_path / "alive", tmp_path / "log"

    with running_command(*part, folder=tmp_path, log=log, **environment, RETROSCRIBE_ALIVE_FILE=str(sign)):
        eventually(sign.exists, what="the first sign")
        sign.unlink()
        eventually(sign.exists, what="another sign")
