"""What was said is removed on request, whatever races with that, and every byte of the home is looked at for it."""

import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.support.command import run_command
from tests.support.desk import BY, Desk, completed, request
from tests.support.desk_command import DeskCommand
from tests.support.eventually import eventually
from tests.support.race import someone_waits
from tests.support.remains import files_with_text
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from workers.ledger import arrivals, backfills, erasure, events, recordings, submissions, tables, transcripts
from workers.ledger.states import FORGETTABLE
from workers.ledger.tables import events as inbox
from workers.model import Lane, Recording, State
from workers.pipeline.acceptance import Acceptance, record
from workers.pipeline.events import receive
from workers.pipeline.forget import forget
from workers.pipeline.index import index
from workers.pipeline.poll import _store
from workers.pipeline.reindex import reindex
from workers.pipeline.submit import submit
from workers.pipeline.validate import validate
from workers.search.query import parse

OK, USAGE, INCOMPLETE, UNREACHABLE = 0, 2, 3, 4
MARKER = "quicksilverfish"
SAID = ("Good morning", f"my {MARKER} has not come", "a refund, then")
_REFS = count(1)


def sent(desk: Desk, recording: Recording, transcription_id: str | None) -> str:
    """Writes a submission, accepted as that, as a worker would; gives its callback ref."""
    ref = f"{next(_REFS):032x}"
    with desk.resources.ledger.write() as tx:
        one = submissions.open_next(tx, recording.id, callback_ref=ref, epoch=0, request_digest=bytes(32))
        if transcription_id is not None:
            submissions.settle(tx, one, submissions.ACCEPTED, transcription_id=transcription_id)
    return ref


def transcribing(desk: Desk, media_id: str) -> tuple[Recording, str]:
    """Accepted by the API as t-MEDIA_ID; with its callback ref."""
    (asked,) = desk.ask([media_id])
    ref = sent(desk, asked, f"t-{media_id}")
    return desk.set(asked, state=State.TRANSCRIBING, transcription_id=f"t-{media_id}", accepted_at=1.0, due_at=9e9), ref


def spoken(desk: Desk, media_id: str, *said: str) -> tuple[Recording, str]:
    """Transcribed and searchable; with its callback ref."""
    accepted, ref = transcribing(desk, media_id)
    receive(desk.resources, ref, completed(f"t-{media_id}", *(said or SAID), media_id=media_id))
    index(desk.resources, accepted.id, by=BY)
    return desk.now(accepted), ref


def kept(desk: Desk, recording: Recording) -> list[bytes]:
    """Everything that the ledger has of what was said in it."""
    with desk.resources.ledger.read() as tx:
        packed = [row.payload for row in tx.execute(tables.transcripts.select()) if row.recording_id == recording.id]
        packed += [row.payload for row in tx.execute(inbox.select()) if row.recording_id == recording.id]
    return [text for text in map(zlib.decompress, packed) if text]


def in_search(desk: Desk, word: str = MARKER) -> list[str]:
    return [hit.media_id for hit in desk.resources.index.search(parse(word)).hits]


@pytest.mark.both_ledgers
def test_forgetting_removes_the_text_and_leaves_a_receipt(desk: Desk, command: DeskCommand) -> None:
    one, _ = spoken(desk, "m-1")
    other, _ = spoken(desk, "m-2", "something else")

    answer = command("forget", "m-1", "--yes")

    assert answer.code == OK, answer
    assert f"m-1 (ref {one.ref}) is forgotten: it was indexed." in answer.out
    assert ("VACUUM FULL" in answer.out) == (desk.resources.ledger.engine.dialect.name == "postgresql")
    assert (desk.state(one), kept(desk, one), in_search(desk)) == (State.FORGOTTEN, [], [])
    assert (desk.state(other), len(kept(desk, other)), in_search(desk, "something")) == (State.INDEXED, 2, ["m-2"])
    with desk.resources.ledger.read() as tx:
        *_, receipt = recordings.history(tx, one.id)
    assert (receipt["from_state"], receipt["to_state"], receipt["reason"]) == ("indexed", "forgotten", "forgotten")
    assert receipt["by"].startswith("retroscribe forget (")
    assert "(its transcript and 1 event); it is not transcribed again." in receipt["detail"]
    assert "forgotten" in command("explain", "m-1").out
    assert len(command("events", "m-1", "--json").json) == 1


def test_a_second_time_it_says_who_did_it_when(desk: Desk, command: DeskCommand) -> None:
    one, _ = spoken(desk, "m-1")
    command("forget", "m-1", "--yes")

    answer = command("forget", "m-1")

    assert answer.code == OK
    assert f"m-1 (ref {one.ref}) was forgotten already" in answer.out
    assert "by retroscribe forget (" in answer.out
    assert desk.way(one).count(State.FORGOTTEN) == 1


@pytest.mark.both_ledgers
@pytest.mark.parametrize("state", sorted(FORGETTABLE - {State.COMPLETED, State.INDEXED}))
def test_what_has_no_text_yet_is_forgotten_and_never_gets_one(desk: Desk, command: DeskCommand, state: State) -> None:
    accepted, ref = transcribing(desk, "m-1")
    one = desk.set(accepted, state=state)

    assert command("forget", "m-1", "--yes").code == OK

    receive(desk.resources, ref, completed("t-m-1", *SAID))
    index(desk.resources, one.id, by=BY)
    assert (desk.state(one), kept(desk, one), in_search(desk)) == (State.FORGOTTEN, [], [])
    assert desk.now(one).epoch > one.epoch


def test_what_is_out_with_a_worker_is_not_submitted_any_more(desk: Desk, sandbox: Sandbox) -> None:
    ready, out = desk.validated(GOOD[0]), desk.queued(GOOD[1])
    for one in (ready, out):
        forget(desk.resources, one, by=BY)

    assert not submit(desk.resources, ready.id, ready.epoch, by=BY)
    assert not validate(desk.resources, out.id, out.epoch, by=BY)

    assert sandbox.stats()["accepted"] == {}
    assert {desk.state(ready), desk.state(out)} == {State.FORGOTTEN}


def test_a_request_that_may_be_on_its_way_is_left_alone(desk: Desk, command: DeskCommand) -> None:
    one = desk.set(desk.queued("m-1"), state=State.SUBMITTING)
    spoken(desk, "m-2")

    answer = command("forget", "m-1", "m-2", "--yes")

    assert (answer.code, desk.state(one)) == (INCOMPLETE, State.SUBMITTING)
    assert "run the same command again in two minutes" in answer.out
    assert "1 forgotten, 1 left alone." in answer.out
    assert in_search(desk) == []


def test_an_answer_that_comes_after_it_was_forgotten_is_on_record_and_no_double(desk: Desk) -> None:
    (asked,) = desk.ask(["m-1"])
    ref = sent(desk, asked, None)
    one = desk.set(asked, state=State.UNKNOWN)
    forget(desk.resources, one, by=BY)

    with desk.resources.ledger.write() as tx:
        record(tx, desk.resources, Acceptance(ref, "t-1", 202), by=BY)
        assert submissions.doubles_of(tx, one.id) == []

    assert (desk.state(one), desk.now(one).transcription_id) == (State.FORGOTTEN, "t-1")
    assert desk.submissions(one)[0].outcome == submissions.ACCEPTED


@pytest.mark.both_ledgers
def test_asked_for_again_it_counts_as_a_duplicate_that_was_forgotten(desk: Desk, command: DeskCommand) -> None:
    one, _ = spoken(desk, "m-1")
    command("forget", "m-1", "--yes")

    desk.ask(["m-1"], backfill="q4", lane=Lane.LIVE)

    assert (desk.state(one), len(desk.submissions(one))) == (State.FORGOTTEN, 1)
    assert "1 forgotten on request, so not transcribed again" in command("status", "q4").out
    answer = command("list", "q4", "--json").json
    assert (answer["state"], answer["duplicate"], answer["reason"]) == ("forgotten", True, "forgotten")
    assert command("retry", "q3", "--state", "forgotten").code == USAGE


def test_a_media_id_stands_for_all_its_recordings_and_a_ref_for_one(desk: Desk, command: DeskCommand) -> None:
    english, _ = spoken(desk, "m-1")
    with desk.resources.ledger.write() as tx:
        target = backfills.ensure(tx, "q3", {})
        wish = request("m-1", languages=("es-ES",))
        backfills.add(tx, target, Lane.BACKFILL, [backfills.Asked(900, wish)], by=BY)
        spanish = recordings.by_fingerprint(tx, wish.fingerprint())

    answer = command("forget", spanish.ref, "--yes")

    assert (desk.state(english), desk.state(spanish)) == (State.INDEXED, State.FORGOTTEN)
    assert (
        f"Not forgotten, for only {spanish.ref} was named: {english.ref} (indexed) of the same media id." in answer.out
    )

    command("forget", "m-1", "--yes")

    assert desk.state(english) == State.FORGOTTEN


def test_many_come_from_standard_input_and_are_summed_up(
    desk: Desk, environment: dict[str, str], tmp_path: Path
) -> None:
    for number in range(12):
        spoken(desk, f"m-{number}")
    names = "".join(f"m-{number}\n" for number in range(12))

    refused = run_command("forget", "-", folder=tmp_path, stdin=names, **environment)
    answer = run_command("forget", "-", "nobody", "--yes", folder=tmp_path, stdin=f"\n{names}m-3\n", **environment)

    assert (refused.returncode, "12 recordings would be forgotten for good: add --yes" in refused.stderr) == (
        USAGE,
        True,
    )
    assert answer.returncode == INCOMPLETE, answer
    assert "... and 2 more\n12 forgotten, 1 unknown here (nobody).\n" in answer.stdout
    assert in_search(desk) == []


def test_an_unknown_id_is_one_sentence(desk: Desk, command: DeskCommand) -> None:
    desk.ask(["m-1"])

    answer = command("forget", "nope", "--yes")

    assert (answer.code, answer.out) == (USAGE, "")
    assert "There is no recording with the media id or ref 'nope': nothing to forget." in answer.err


def test_a_damaged_index_is_told_and_the_next_run_finishes(desk: Desk, command: DeskCommand) -> None:
    one, _ = spoken(desk, "m-1")
    path = desk.resources.settings.search_path
    desk.resources.index.close()
    for beside in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        beside.unlink(missing_ok=True)
    whole = path.read_bytes()
    path.write_bytes(b"no database at all " * 300)

    answer = command("forget", "m-1", "--yes")

    assert (answer.code, desk.state(one), kept(desk, one)) == (UNREACHABLE, State.FORGOTTEN, [])
    assert "can't be used" in answer.err
    assert "Run the same command again." in answer.err

    path.write_bytes(whole)
    assert (command("forget", "m-1").code, in_search(desk)) == (OK, [])


class TestRaces:
    """What is under way at the moment of forgetting leaves nothing either."""

    @pytest.mark.both_ledgers
    def test_an_event_that_waits_to_be_applied(self, desk: Desk) -> None:
        one, ref = transcribing(desk, "m-1")
        receive(desk.resources, ref, completed("t-m-1", *SAID))

        forget(desk.resources, one, by=BY)

        index(desk.resources, one.id, by=BY)
        assert (desk.state(one), kept(desk, one), in_search(desk)) == (State.FORGOTTEN, [], [])
        assert desk.way(one)[-2:] == [State.COMPLETED, State.FORGOTTEN]

    @pytest.mark.both_ledgers
    def test_an_event_that_is_delivered_in_the_middle_of_it(self, desk: Desk) -> None:
        one, ref = transcribing(desk, "m-1")
        body = completed("t-m-1", *SAID)

        with ThreadPoolExecutor(1) as pool:
            with desk.resources.ledger.write() as tx:
                locked = recordings.lock(tx, one.id)
                assert locked is not None
                erasure.forget(tx, locked, by=BY)
                delivery = pool.submit(receive, desk.resources, ref, body)
                eventually(lambda: delivery.done() or someone_waits(desk.resources.ledger))
            verdict = delivery.result(30).verdict

        assert (verdict, kept(desk, one)) == ("ignored", [])

    @pytest.mark.both_ledgers
    def test_an_event_that_is_being_stored_when_it_begins(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        one, ref = transcribing(desk, "m-1")
        store = arrivals.store_all

        with ThreadPoolExecutor(1) as pool:
            forgetting: list[Future[object]] = []

            def forget_meanwhile(tx: Connection, came: Sequence[events.Arrival]) -> list[bool]:
                stored = store(tx, came)
                forgetting.append(pool.submit(forget, desk.resources, one, by=BY))
                eventually(lambda: forgetting[0].done() or someone_waits(desk.resources.ledger))
                return stored

            monkeypatch.setattr(arrivals, "store_all", forget_meanwhile)
            assert receive(desk.resources, ref, completed("t-m-1", *SAID)).verdict == "stored"
            forgetting[0].result(30)

        index(desk.resources, one.id, by=BY)
        assert (desk.state(one), kept(desk, one), in_search(desk)) == (State.FORGOTTEN, [], [])

    @pytest.mark.both_ledgers
    def test_an_event_of_its_transcription_for_another_callback_or_an_unknown_one(self, desk: Desk) -> None:
        one, _ = spoken(desk, "m-1")
        other, others = transcribing(desk, "m-2")
        before, after = completed("t-m-1", *SAID), completed("t-m-1", *SAID, MARKER)
        assert receive(desk.resources, others, before).verdict == "refused"

        forget(desk.resources, one, by=BY)

        assert kept(desk, other) == []
        assert receive(desk.resources, others, after).verdict == "ignored"
        assert receive(desk.resources, "f" * 32, after).verdict == "ignored"
        with desk.resources.ledger.read() as tx:
            assert [text for text in (zlib.decompress(row.payload) for row in tx.execute(inbox.select())) if text] == []

    @pytest.mark.both_ledgers
    def test_a_look_up_that_is_answered_after_it(self, desk: Desk) -> None:
        one, _ = transcribing(desk, "m-1")
        forget(desk.resources, one, by=BY)

        with desk.resources.ledger.write() as tx:
            _store(tx, one, events.pack(completed("t-m-1", *SAID)), "completed", has_result=True)

        index(desk.resources, one.id, by=BY)
        assert (desk.state(one), kept(desk, one), in_search(desk)) == (State.FORGOTTEN, [], [])

    def test_a_document_that_is_being_written(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        one, ref = transcribing(desk, "m-1")
        receive(desk.resources, ref, completed("t-m-1", *SAID))
        write = desk.resources.index.upsert

        def forget_first(documents: object) -> None:
            forget(desk.resources, one, by="somebody")
            write(documents)

        monkeypatch.setattr(desk.resources.index, "upsert", forget_first)
        index(desk.resources, one.id, by=BY)

        assert (desk.state(one), in_search(desk)) == (State.FORGOTTEN, [])
        assert remains(desk, MARKER) == []

    def test_a_document_whose_writer_died_before_it_looked_again(self, desk: Desk) -> None:
        one, _ = spoken(desk, "m-1")
        document = desk.resources.index.get("m-1")
        forget(desk.resources, one, by=BY)
        desk.resources.index.upsert([document])

        index(desk.resources, one.id, by=BY)  # its message is delivered again

        assert in_search(desk) == []

    def test_a_reindex_that_has_read_it_already(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        one, _ = spoken(desk, "m-1")
        spoken(desk, "m-2", "something else")
        read = transcripts.batch

        def forget_then(*arguments: object, **named: object) -> object:
            found = read(*arguments, **named)
            if desk.state(one) != State.FORGOTTEN:
                thread = threading.Thread(target=forget, args=(desk.resources, one), kwargs={"by": BY})
                thread.start()
                thread.join(30)
            return found

        monkeypatch.setattr(transcripts, "batch", forget_then)
        list(reindex(desk.resources))

        assert (desk.state(one), in_search(desk), in_search(desk, "something")) == (State.FORGOTTEN, [], ["m-2"])


def remains(desk: Desk, text: str) -> list[str]:
    """The files of the home in which it is to be read."""
    return files_with_text(desk.resources.settings.home, text)
