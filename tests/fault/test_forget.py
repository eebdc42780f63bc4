"""Forgetting while every part is up: no byte of it stays in the home, and nothing that comes late brings it back."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy import select

from tests.support.desk import completed
from tests.support.fleet import Fleet
from tests.support.remains import files_with, files_with_text
from tests.support.search import document
from workers.ledger import recordings, submissions
from workers.ledger.tables import events, transcripts
from workers.model import Recording, State
from workers.pipeline.callbacks import callback_uri

MARKER = "quicksilverfish"


def indexed(fleet: Fleet, media_ids: list[str]) -> list[Recording]:
    with fleet.resources.ledger.read() as tx:
        found = [one for media_id in media_ids for one in recordings.find(tx, media_id)]
    return [one for one in found if one.state == State.INDEXED]


def in_the_ledger(fleet: Fleet, recording: Recording, *, others: bool = False) -> list[bytes]:
    """What it keeps of what was said in the recording, or in all others, as it lies in its files."""
    with fleet.resources.ledger.read() as tx:
        said = [*tx.execute(select(transcripts.c.recording_id, transcripts.c.payload))]
        said += [*tx.execute(select(events.c.recording_id, events.c.payload))]
    return [bytes(row.payload) for row in said if (row.recording_id == recording.id) != others]


def in_the_index(fleet: Fleet, recording: Recording, *, others: bool = False) -> list[bytes]:
    """The recording's document, or those of all others, as they lie in the index's file."""
    with closing(sqlite3.connect(fleet.resources.settings.search_path)) as index:
        said = index.execute("SELECT ref, body FROM documents JOIN bodies USING (id)").fetchall()
    return [bytes(body) for ref, body in said if (ref == recording.ref) != others]


def deliver(fleet: Fleet, recording: Recording, body: bytes) -> int:
    """Sends an event to the recording's callback, as the API does; gives the answer's status."""
    with fleet.resources.ledger.read() as tx:
        ref = submissions.of_recording(tx, recording.id)[-1].callback_ref
    return fleet._http.post(callback_uri("", ref, fleet.resources.settings.signing_secrets), content=body).status_code


@pytest.mark.slow
def test_with_all_parts_up_no_byte_stays_and_the_index_can_be_held_against_the_ledger(fleet: Fleet) -> None:
    media_ids = fleet.ask("erased", 12)
    fleet.finish("erased")
    one, other, third, *_ = indexed(fleet, media_ids)
    said = in_the_ledger(fleet, one) + in_the_index(fleet, one)
    home = fleet.resources.settings.home
    rest = in_the_ledger(fleet, one, others=True) + in_the_index(fleet, one, others=True)
    assert len(said) == 3
    assert all(files_with(home, body, but_not=rest) for body in said)

    answer = fleet.run("forget", "-", "--yes", "--json", stdin=f"{one.media_id}\n")

    assert (answer.returncode, json.loads(answer.stdout)["forgotten"]) == (0, 1), answer
    late = completed(str(one.transcription_id), MARKER, media_id=one.media_id)
    assert deliver(fleet, one, late) == 200
    assert [files_with(home, body, but_not=rest) for body in said] == [[], [], []]
    assert fleet.run("reindex").returncode == 0
    assert [files_with(home, body, but_not=rest) for body in said] == [[], [], []]
    assert files_with_text(home, MARKER) == []
    assert (in_the_ledger(fleet, one)[1:], in_the_index(fleet, one)) == ([], [])
    assert fleet.run("show", one.media_id).stderr.startswith(f"{one.media_id} has no transcript: it is forgotten.")

    fleet.resources.index.delete(other.ref)
    stranger = document("stranger", "nobody's words")
    damaged = replace(document("old", "older words"), ref=third.ref, media_id=third.media_id)
    fleet.resources.index.delete(third.ref)
    fleet.resources.index.upsert([stranger, replace(damaged, version=-1)])
    told = json.loads(fleet.run("reconcile", "--json").stdout)
    assert {name: told[name]["refs"] for name in ("missing", "stale", "extra")} == {
        "missing": [other.ref],
        "stale": [third.ref],
        "extra": [stranger.ref],
    }
    assert fleet.run("reconcile", "--fix").returncode == 0
    assert fleet.run("reconcile").stdout.endswith("The search index says what the ledger says.\n")

    again = fleet.ask("asked-again", 3, extra=[one.media_id])
    fleet.finish("asked-again")
    assert fleet.sandbox.stats()["accepted"][one.media_id] == 1
    assert "1 forgotten on request" in fleet.run("status", "asked-again").stdout
    assert len(again) == 4
