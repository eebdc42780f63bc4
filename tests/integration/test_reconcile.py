"""The search index is held against the ledger: what differs is found and repaired, while everything goes on."""

import random
from dataclasses import replace

import pytest

from tests.integration.test_forget import spoken, transcribing
from tests.support.command import run_command
from tests.support.desk import BY, Desk, completed
from tests.support.desk_command import DeskCommand
from tests.support.search import document
from workers.model import Recording, State
from workers.pipeline import reconcile as comparing
from workers.pipeline.events import receive
from workers.pipeline.forget import forget
from workers.pipeline.index import index
from workers.pipeline.reconcile import Comparison
from workers.search.documents import Document

OK, DIFFERENT, UNREACHABLE = 0, 3, 4


def compared(desk: Desk, *, fix: bool = False) -> Comparison:
    *_, last = comparing.reconcile(desk.resources, fix=fix)
    return last


def found(comparison: Comparison) -> dict[str, int]:
    return {name: getattr(comparison, name).number for name in ("missing", "stale", "extra")}


def documents(desk: Desk) -> dict[str, int]:
    return dict(desk.resources.index.versions(None, 10_000))


def document_of(desk: Desk, recording: Recording) -> Document:
    there = desk.resources.index.get(recording.media_id)
    assert there is not None
    return there


@pytest.mark.both_ledgers
def test_what_is_missing_stale_or_extra_is_found_and_repaired(desk: Desk, command: DeskCommand) -> None:
    missing, stale, newer, forgotten, fine = (spoken(desk, f"m-{number}")[0] for number in range(5))
    whole = documents(desk)
    search = desk.resources.index
    back = document_of(desk, forgotten)
    forget(desk.resources, forgotten, by=BY)
    waits, _ = transcribing(desk, "m-waits")
    search.delete(missing.ref)
    search.delete(stale.ref)
    search.upsert(
        [
            replace(document("old", "older words", media_id="m-1"), ref=stale.ref, version=-1),
            replace(document_of(desk, newer), version=9999),
            back,
            document("stranger", "nobody's words"),
            replace(document("early", "too early"), ref=waits.ref),
        ]
    )

    told = command("reconcile")

    assert told.code == DIFFERENT, told
    assert told.out.startswith("4 indexed recordings and 6 documents compared.\n")
    assert f"1 missing: indexed in the ledger, without a document (ref {missing.ref})" in told.out
    assert "2 stale: with a document of another version (ref " in told.out
    assert "3 extra: a document of no recording that is transcribed, or of a forgotten one (ref " in told.out

    fixed = command("reconcile", "--fix")

    assert (fixed.code, fixed.out.splitlines()[-1]) == (OK, "All of that is repaired.")
    assert documents(desk) == {ref: version for ref, version in whole.items() if ref != forgotten.ref}
    assert search.get("m-0").segments == search.get("m-4").segments
    again = command("reconcile")
    assert (again.code, again.out.splitlines()[-1]) == (OK, "The search index says what the ledger says.")
    assert desk.state(fine) == State.INDEXED


def test_over_many_pages_each_difference_is_counted_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(7)
    refs = [spoken(desk, f"m-{number}")[0].ref for number in range(23)]
    strangers = [f"{dice.getrandbits(128):032x}" for _ in range(19)] + ["~", "0"]
    gone = dice.sample(refs, 9)
    for ref in gone:
        desk.resources.index.delete(ref)
    desk.resources.index.upsert([replace(document(ref), ref=ref) for ref in strangers])
    monkeypatch.setattr(comparing, "PAGE", 4)

    before = compared(desk)

    assert (before.recordings, before.documents) == (23, 23 - 9 + 21)
    assert found(before) == {"missing": 9, "stale": 0, "extra": 21}
    assert set(before.missing.examples) <= set(gone)
    assert len(before.missing.examples) == len(before.extra.examples) == 3
    assert compared(desk, fix=True).left == 0
    assert set(documents(desk)) == set(refs)
    assert found(compared(desk)) == {"missing": 0, "stale": 0, "extra": 0}


def test_an_empty_index_over_an_empty_ledger_agrees(desk: Desk, command: DeskCommand) -> None:
    assert command("reconcile", "--json").json == {
        "recordings": 0,
        "documents": 0,
        **{name: {"count": 0, "refs": [], "repaired": 0} for name in ("missing", "stale", "extra")},
        "fix": False,
    }


class TestWhileWorkersGoOn:
    """What moves between a look at the one and a look at the other is no difference."""

    def test_what_is_indexed_after_the_look_at_the_ledger(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        spoken(desk, "m-1")
        accepted, ref = transcribing(desk, "m-2")
        receive(desk.resources, ref, completed("t-m-2", "hello"))
        _before_the_index_is_read(desk, monkeypatch, lambda: index(desk.resources, accepted.id, by=BY))

        assert found(compared(desk, fix=True)) == {"missing": 0, "stale": 0, "extra": 0}
        assert len(documents(desk)) == 2

    def test_what_is_forgotten_after_the_look_at_the_ledger(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        one, _ = spoken(desk, "m-1")
        _before_the_index_is_read(desk, monkeypatch, lambda: forget(desk.resources, one, by=BY))

        assert found(compared(desk, fix=True)) == {"missing": 0, "stale": 0, "extra": 0}
        assert documents(desk) == {}

    def test_what_is_written_but_not_noted_yet(self, desk: Desk) -> None:
        one, _ = spoken(desk, "m-1")
        desk.set(one, state=State.COMPLETED, due_at=9e9)

        assert found(compared(desk, fix=True)) == {"missing": 0, "stale": 0, "extra": 0}
        assert len(documents(desk)) == 1

    def test_what_is_completed_while_its_document_is_deleted_as_extra(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accepted, ref = transcribing(desk, "m-1")
        desk.resources.index.upsert([replace(document("early", "too early"), ref=accepted.ref)])
        delete = desk.resources.index.delete

        def complete_first(ref_: str) -> None:
            receive(desk.resources, ref, completed("t-m-1", "hello"))
            index(desk.resources, accepted.id, by=BY)
            delete(ref_)

        monkeypatch.setattr(desk.resources.index, "delete", complete_first)
        compared(desk, fix=True)

        assert desk.state(accepted) == State.INDEXED
        assert document_of(desk, accepted).text == "hello"


def test_an_index_that_can_not_be_read_is_one_sentence(desk: Desk, environment: dict[str, str], tmp_path) -> None:
    desk.ask(["m-1"])
    desk.resources.settings.search_path.write_bytes(b"no database at all " * 300)

    answer = run_command("reconcile", folder=tmp_path, **environment)

    assert (answer.returncode, answer.stdout) == (UNREACHABLE, "")
    assert answer.stderr.startswith("retroscribe: The search index ")


def _before_the_index_is_read(desk: Desk, monkeypatch: pytest.MonkeyPatch, happens: object) -> None:
    """Once, between the first look at the ledger and the first at the index."""
    read, waiting = desk.resources.index.versions, [happens]

    def versions(after_ref: str | None, most: int) -> list[tuple[str, int]]:
        while waiting:
            waiting.pop()()
        return read(after_ref, most)

    monkeypatch.setattr(desk.resources.index, "versions", versions)
