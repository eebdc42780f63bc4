"""One engine and one image for all tests with containers; skipped with a sentence where none can be run."""

from collections.abc import Iterator

import pytest

from tests.containers.engine import Engine, missing
from tests.containers.images import build_ours, make_stand_ins


@pytest.fixture(scope="package")
def engine() -> Iterator[Engine]:
    why = missing()
    if why:
        pytest.skip(why)
    started = Engine()
    try:
        make_stand_ins(started)
        build_ours(started)
        yield started
    finally:
        started.close()
