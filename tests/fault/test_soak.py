"""Every fault at once, by chance, while parts die: nothing lost, leaked or paid twice, and the counts add up."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.fleet import PAID_FOR, PARTS, RATE, Broker, Fleet, assert_nothing_lost_nothing_twice
from tests.support.leaks import assert_nothing_leaked
from tests.support.sandbox import Sandbox
from workers.model import State
from workers.pipeline.status import status
from workers.sandbox.events import FOREIGN_WORDS
from workers.search.query import parse

SEED = 20261122
#: Fewer than a fifth of all calls fail, or the breaker would rightly make this a test of patience.
FAULTS = {
    "submit_status": {"500": 0.01, "429": 0.01},
    "submit_then": {"cut": 0.01},
    "accept_then": {"502": 0.01, "cut": 0.01, "no_id": 0.01},
    "media_status": {"503": 0.02, "429": 0.01},
    "status_status": {"500": 0.05},
    "revoke_tokens": {"true": 0.002},
    "retry_after": {"missing": 0.3},
    "webhooks": {
        "lost": 0.1,
        "doubled": 0.1,
        "early": 0.05,
        "late": 0.05,
        "out_of_order": 0.05,
        "no_result": 0.05,
        "contradicted": 0.05,
        "wrong_media": 0.05,
        "forged": 0.05,
    },
    "late_seconds": 3,
}
#: Not media ids, and media ids that are asked for twice.
UNUSABLE = ["", "a b", "x" * 200]


@pytest.fixture
def stormy(tmp_path: Path) -> Iterator[Fleet]:
    broker = Broker(tmp_path).start()
    with Sandbox(rate=RATE, processing_seconds=0.2, never_finish=0.02, count=5000, seed=1, faults=FAULTS) as sandbox:
        fleet = Fleet(tmp_path, sandbox, broker, unchecked={"submit_lease_seconds": 10}, deadline_hours=10 / 3600)
        yield fleet
        fleet.close()
    broker.close()


@pytest.mark.parametrize(
    ("number", "accidents"), [(120, 2), pytest.param(2000, 25, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_with_all_faults_at_once_each_recording_has_one_end_and_the_counts_add_up(
    stormy: Fleet, number: int, accidents: int
) -> None:
    chance = random.Random(SEED)
    media_ids = stormy.ask("storm", number, extra=UNUSABLE)
    stormy.ask("storm", 0, extra=media_ids[:7])

    for accident in range(1, accidents + 1):
        reached = accident * number // (accidents + 2)
        eventually(lambda reached=reached: stormy.ended("storm") >= reached, timeout=120, what="the next accident")
        victim = chance.choice([*PARTS, "valkey"])
        stormy.kill(victim)
        stormy.start(victim)

    states = stormy.finish("storm", timeout=300)

    # Of a contradicted one, only the failure may have arrived.
    assert_nothing_lost_nothing_twice(stormy, "storm", paid_for=PAID_FOR | {State.FAILED})
    assert states[State.INDEXED] > number * 0.8
    found = status(stormy.resources, "storm").as_json()
    ends = sum(found["states"][state] for state in ("indexed", "rejected", "failed", "parked", "cancelled"))
    assert found["requested"] == ends + found["duplicates"] + found["intake_rejects"] == number + len(UNUSABLE) + 7
    assert found["accepted_twice"] == 0
    assert stormy.resources.index.search(parse(f'"{FOREIGN_WORDS}"')).total == 0
    assert_nothing_leaked(stormy)
