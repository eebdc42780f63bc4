"""Workers that die where a recording ends: the audit log has each end that the ledger has."""

import json

import pytest

from tests.support.death import ENDS
from tests.support.eventually import eventually
from tests.support.fleet import Fleet
from workers.ledger import tables
from workers.model import State

FIRST = "before_index_audit"
NUMBER = 110  # of which some are rejected


@pytest.mark.parametrize(
    "point", [FIRST, *(pytest.param(point, marks=pytest.mark.slow) for point in ENDS if point != FIRST)]
)
def test_who_dies_at_the_end_of_a_recording_leaves_no_end_without_its_audit_record(fleet: Fleet, point: str) -> None:
    role = "index" if "index" in point else "pipeline"
    dying, backfill = f"{role}.{point}", point.replace("_", "-")
    fleet.kill(role)
    fleet.start(dying, dies_at={dying: f"{point}:2"})
    media_ids = fleet.ask(backfill, NUMBER)
    eventually(lambda: dying not in fleet.pids(), 60, "its death")
    fleet.heal()

    states = fleet.finish(backfill, timeout=90)

    with fleet.resources.ledger.read() as tx:
        ends = tx.execute(tables.recordings.select().where(tables.recordings.c.media_id.in_(media_ids))).all()
    status = {State.INDEXED: "completed", State.REJECTED: "rejected"}
    records = [json.loads(line) for line in (fleet.folder / "home" / "audit.jsonl").read_text().splitlines()]
    told = {(one["ref"], one["status"]) for one in records if one["mediaId"] in media_ids}
    assert states[State.REJECTED] > 1
    assert told == {(one.ref, status[State(one.state)]) for one in ends if one.state in status}
