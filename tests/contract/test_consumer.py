"""What the broker's restart needs of a worker's requests: to be gone through while threads begin and end some."""

import subprocess
import sys

import pytest

from tests.support.command import bare_environment

#: Goes through each of Celery's three sets; another request comes, or the next one goes, after the first.
WHILE_OTHERS = """
from celery.worker import state
from workers.app import app

class Request:
    pass

app.WorkController(pool="solo", concurrency=1)
for name in ("reserved_requests", "active_requests", "scheduled_requests"):
    found, mine = getattr(state, name), [Request() for _ in range(4)]
    found.update(mine[:3])
    passed = iter(found)
    first = next(passed)
    if {begins}:
        found.add(mine[3])
    else:
        found.discard(next(one for one in mine if one is not first))
    assert {{first, *passed}} <= set(mine)
    print(name, len(found))
"""


@pytest.mark.parametrize(("begins", "left"), [(True, 4), (False, 2)])
def test_requests_are_gone_through_while_a_task_begins_or_ends(begins: bool, left: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WHILE_OTHERS.format(begins=begins)],
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    names = ("reserved_requests", "active_requests", "scheduled_requests")
    assert ended.stdout.splitlines() == [f"{name} {left}" for name in names], ended.stderr
