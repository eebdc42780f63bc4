"""Documents written together, with a version, never after they were forgotten; and the index built anew meanwhile."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.support.desk import BY, Desk, completed
from tests.support.desk_command import DeskCommand
from tests.support.sandbox_calls import GOOD
from workers.errors import DocumentsNotStored, PartUnreachable, SearchUnavailable
from workers.ledger import leases, recordings
from workers.ledger.tables import transcripts
from workers.model import Recording, State
from workers.pipeline.events import receive
from workers.pipeline.index import index
from workers.pipeline.reindex import LEASE, reindex
from workers.search.documents import Document
from workers.search.query import parse
from workers.search.sqlite import SqliteIndex

both_ledgers = pytest.mark.both_ledgers


def heard(desk: Desk, media_id: str) -> Recording:
    """Its event has come, and nobody has applied it yet."""
    accepted = desk.submitted(media_id)
    ref = desk.submissions(accepted)[0].callback_ref
    receive(desk.resources, ref, completed(str(accepted.transcription_id), "hello there"))
    return accepted


def found(desk: Desk, text: str = "", **filters: Any) -> set[str]:
    return {hit.media_id for hit in desk.resources.index.search(parse(text, **filters, size=100)).hits}


class Watched(SqliteIndex):
    """Tells how many documents each call writes, and does something before one."""

    calls: list[int]
    before: Callable[[], None] = staticmethod(lambda: None)

    def upsert(self, documents: Sequence[Document]) -> None:
        self.calls.append(len(documents))
        self.before()
        super().upsert(documents)


@pytest.fixture
def watched(desk: Desk) -> Watched:
    made = Watched(desk.resources.settings.search_path)
    made.calls = []
    desk.resources.__dict__["index"] = made
    return made


def forget(desk: Desk, recording: Recording) -> None:
    """As a person's order to forget it would: the ledger first, then the index."""
    with desk.resources.ledger.write() as tx:
        assert recordings.move(tx, desk.now(recording), State.FORGOTTEN, by=BY)


@both_ledgers
def test_what_has_come_is_applied_and_written_in_one_go(desk: Desk, watched: Watched, audit_records: list[str]) -> None:
    waiting = [heard(desk, media_id) for media_id in GOOD[:6]]

    for recording in waiting:
        index(desk.resources, recording.id, by=BY)

    assert watched.calls == [6]
    assert {desk.state(one) for one in waiting} == {State.INDEXED}
    assert (found(desk, "hello"), len(audit_records)) == (set(GOOD[:6]), 6)


@both_ledgers
def test_what_waited_for_an_index_that_was_away_is_written_in_one_go(desk: Desk, watched: Watched) -> None:
    waiting = [heard(desk, media_id) for media_id in GOOD[:6]]

    def away() -> None:
        raise SearchUnavailable("It is away.")

    watched.before = away
    index(desk.resources, waiting[0].id, by=BY)
    for recording in waiting:
        assert desk.set(recording, due_at=1.0).detail == "It is away."
    watched.before = lambda: None
    index(desk.resources, waiting[3].id, by=BY)

    assert watched.calls == [6, 6]
    assert {desk.state(one) for one in waiting} == {State.INDEXED}


@both_ledgers
def test_several_tasks_at_once_write_each_document_and_each_audit_record_once(
    desk: Desk, audit_records: list[str]
) -> None:
    waiting = [heard(desk, media_id) for media_id in GOOD[:12]]
    tasks = [threading.Thread(target=index, args=(desk.resources, one.id), kwargs={"by": BY}) for one in waiting]

    for task in tasks:
        task.start()
    for task in tasks:
        task.join()

    assert {desk.state(one) for one in waiting} == {State.INDEXED}
    assert (desk.resources.index.count(), len(audit_records)) == (12, 12)


def test_of_a_batch_that_is_stored_in_part_only_that_part_is_indexed(
    desk: Desk, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = heard(desk, GOOD[0]), heard(desk, GOOD[1])

    def refuse() -> None:
        raise DocumentsNotStored("One was refused.", {bad.ref: "It is too large."})

    watched.before = refuse
    index(desk.resources, good.id, by=BY)

    waits = desk.now(bad)
    assert (desk.state(good), waits.state, waits.detail) == (State.INDEXED, State.COMPLETED, "It is too large.")


def test_a_document_carries_the_epoch_so_that_who_had_the_recording_before_that_comes_too_late(desk: Desk) -> None:
    recording = heard(desk, GOOD[0])
    index(desk.resources, recording.id, by=BY)
    written = desk.resources.index.get(GOOD[0])
    assert written is not None

    desk.resources.index.upsert([replace(written, version=written.version - 1, backfill="stale")])

    assert (written.version, desk.resources.index.get(GOOD[0])) == (desk.now(recording).epoch, written)


@both_ledgers
def test_a_document_of_a_recording_that_is_forgotten_while_it_is_written_is_taken_back(
    desk: Desk, watched: Watched
) -> None:
    recording = heard(desk, GOOD[0])
    watched.before = lambda: forget(desk, recording)

    index(desk.resources, recording.id, by=BY)

    assert (desk.state(recording), found(desk, media_id=GOOD[0])) == (State.FORGOTTEN, set())


@both_ledgers
def test_one_that_is_forgotten_before_its_transcript_is_read_holds_up_no_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, gone = heard(desk, GOOD[0]), heard(desk, GOOD[1])

    def forget_meanwhile(*_: object) -> list[Recording]:
        forget(desk, gone)
        with desk.resources.ledger.write() as tx:
            tx.execute(transcripts.delete().where(transcripts.c.recording_id == gone.id))
        return []

    monkeypatch.setattr("workers.pipeline.index._overdue", forget_meanwhile)
    index(desk.resources, good.id, by=BY)

    assert (desk.state(good), desk.state(gone), found(desk, "hello")) == (State.INDEXED, State.FORGOTTEN, {GOOD[0]})


def test_a_worker_that_died_before_taking_a_forgotten_document_back_leaves_it_to_the_message_sent_again(
    desk: Desk, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = heard(desk, GOOD[0])
    watched.before = lambda: forget(desk, recording)
    with monkeypatch.context() as death:
        death.setattr("workers.pipeline.index._indexed", lambda *_, **__: {})
        index(desk.resources, recording.id, by=BY)
    assert found(desk, media_id=GOOD[0]) == {GOOD[0]}

    index(desk.resources, recording.id, by=BY)

    assert found(desk, media_id=GOOD[0]) == set()


@both_ledgers
def test_a_rebuilt_index_has_what_the_ledger_has_also_what_waits_to_be_indexed_and_no_more(
    desk: Desk, command: DeskCommand
) -> None:
    done, waits, gone = (heard(desk, media_id) for media_id in GOOD[:3])
    for recording in (done, gone):
        index(desk.resources, recording.id, by=BY)
    with desk.resources.ledger.write() as tx:
        assert recordings.move(tx, desk.now(gone), State.FORGOTTEN, by=BY)
    desk.set(waits, state=State.INDEXED)  # its document got lost
    desk.resources.index.delete(waits.ref)

    answer = command("reindex")

    assert (answer.code, answer.out) == (0, "A new index with 2 transcripts is in place.\n")
    assert found(desk, "hello") == {GOOD[0], GOOD[1]}


@both_ledgers
def test_what_comes_while_the_index_is_rebuilt_is_in_the_old_one_at_once_and_in_the_new_one(desk: Desk) -> None:
    first, second, late, gone = (heard(desk, media_id) for media_id in GOOD[:4])
    for recording in (first, second, gone):
        index(desk.resources, recording.id, by=BY)
    steps = reindex(desk.resources)

    next(steps)
    index(desk.resources, late.id, by=BY)
    forget(desk, gone)
    desk.resources.index.delete(gone.ref)

    assert found(desk, "hello") == {GOOD[0], GOOD[1], GOOD[2]}
    assert list(steps) == []
    assert found(desk, "hello") == {GOOD[0], GOOD[1], GOOD[2]}


def test_what_is_forgotten_between_the_reading_of_a_batch_and_its_writing_is_not_in_the_new_index(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = heard(desk, GOOD[0])
    index(desk.resources, recording.id, by=BY)
    from workers.pipeline import reindex as module  # noqa: PLC0415 its own function is what is overtaken

    made = module._document

    def forget_first(one: Recording, payload: bytes) -> Document:
        forget(desk, one)
        desk.resources.index.delete(one.ref)
        return made(one, payload)

    monkeypatch.setattr(module, "_document", forget_first)
    list(reindex(desk.resources))

    assert (found(desk, "hello"), desk.resources.index.count()) == (set(), 0)


def test_a_rebuild_that_is_broken_off_leaves_the_index_as_it_was_and_the_next_one_works(desk: Desk) -> None:
    recording = heard(desk, GOOD[0])
    index(desk.resources, recording.id, by=BY)
    steps = reindex(desk.resources)
    next(steps)

    with suppress(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt)

    assert found(desk, "hello") == {GOOD[0]}
    assert list(reindex(desk.resources)) == [1]
    assert found(desk, "hello") == {GOOD[0]}


def test_only_one_process_of_the_fleet_rebuilds(desk: Desk) -> None:
    with desk.resources.ledger.write() as tx:
        leases.take(tx, LEASE, "somebody else", 60)

    with pytest.raises(PartUnreachable, match="rebuilt already"):
        next(reindex(desk.resources))


def test_one_backfill_is_written_anew_into_the_present_index(desk: Desk, command: DeskCommand) -> None:
    mine, other = heard(desk, GOOD[0]), heard(desk, GOOD[1])
    for recording in (mine, other):
        index(desk.resources, recording.id, by=BY)
        desk.resources.index.delete(recording.ref)
    desk.ask([GOOD[2]], backfill="q4")

    assert command("reindex", "q4").out == "0 transcripts of q4 written anew.\n"
    assert found(desk, "hello") == set()
    assert command("reindex", "q3").out == "2 transcripts of q3 written anew.\n"
    assert found(desk, "hello") == {GOOD[0], GOOD[1]}


def test_a_backfill_that_there_is_not_is_named(command: DeskCommand) -> None:
    answer = command("reindex", "q9")

    assert (answer.code, "There is no backfill 'q9'" in answer.err) == (2, True)
