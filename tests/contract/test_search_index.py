"""What every search index must do, run against each kind of it through the fixture `place`."""

import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.eventually import eventually
from tests.support.search import NOON, document, found, names
from tests.support.search_places import Open, Place
from workers.errors import InputError, SearchUnavailable
from workers.search.index import SearchIndex
from workers.search.query import parse
from workers.search.sqlite import SqliteIndex

PROCESSES = multiprocessing.get_context("spawn")


def write_many(opener: Open, barrier: Barrier, writer: int, count: int) -> None:
    """Each document of its own in a call, and after each one that all writers have."""
    barrier.wait(60)
    with closing(opener()) as index:
        for number in range(count):
            index.upsert([document(f"{writer}-{number}", "common speech", created_at=NOON + number)])
            index.upsert([document(f"shared-{number % 10}", "shared speech", version=number)])


def write_until_killed(opener: Open, acknowledged: Connection, round_number: int) -> None:
    with closing(opener()) as index:
        for number in range(1_000_000):
            batch = [document(f"{round_number}-{number}-{part}", "spoken words " * 50) for part in range(3)]
            index.upsert(batch)
            acknowledged.send([written.media_id for written in batch])


def drained(pipes: Iterable[Connection]) -> list[Any]:
    """What has been said by now."""
    said = []
    for pipe in pipes:
        with suppress(EOFError):
            while pipe.poll():
                said.append(pipe.recv())
    return said


def write_until(opener: Open, put_down: Connection, enough: Event, writer: int) -> None:
    """Says what it is about to write before it begins, as the pipeline does in the ledger."""
    with closing(opener()) as index:
        number = 0
        while not enough.is_set():
            name = f"{writer}-{number}"
            put_down.send(name)
            index.upsert([document(name, "spoken words")])
            number += 1
    put_down.close()


def test_several_processes_writing_at_once_lose_and_double_nothing(place: Place) -> None:
    barrier = PROCESSES.Barrier(4)
    writers = [PROCESSES.Process(target=write_many, args=(place.open, barrier, n, 25)) for n in range(4)]

    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)

    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    with closing(place.open()) as index:
        pages = [index.search(parse("common", size=50, offset=offset)) for offset in (0, 50)]
        assert sorted(name for page in pages for name in names(page)) == sorted(
            f"{writer}-{number}" for writer in range(4) for number in range(25)
        )
        assert sorted(found(index, "shared")) == [f"shared-{n}" for n in range(10)]
        assert index.count() == pages[0].total + 10 == 110


def test_a_writer_killed_in_the_middle_loses_nothing_that_it_acknowledged(place: Place) -> None:
    acknowledged: list[str] = []
    for round_number in range(3):
        ours, theirs = PROCESSES.Pipe(duplex=False)
        writer = PROCESSES.Process(target=write_until_killed, args=(place.open, theirs, round_number))
        writer.start()
        theirs.close()
        enough = len(acknowledged) + 30
        while len(acknowledged) < enough:
            acknowledged += ours.recv()
        writer.kill()
        writer.join(30)
        acknowledged += [media_id for media_ids in drained([ours]) for media_id in media_ids]

    with closing(place.open()) as index:
        assert [media_id for media_id in acknowledged if index.get(media_id) is None] == []
        # A request that was under way may still come in.
        eventually(lambda: index.count() == index.search(parse('"spoken words"')).total, what="the last request")
        if isinstance(index, SqliteIndex):
            assert index.count() % 3 == 0, "a batch was stored in part"


def test_a_rebuild_under_writers_loses_nothing_and_each_process_goes_on_with_the_new_index(place: Place) -> None:
    enough = PROCESSES.Event()
    pipes = [PROCESSES.Pipe(duplex=False) for _ in range(2)]
    writers = [
        PROCESSES.Process(target=write_until, args=(place.open, theirs, enough, number))
        for number, (_, theirs) in enumerate(pipes)
    ]
    for writer, (_, theirs) in zip(writers, pipes, strict=True):
        writer.start()
        theirs.close()
    put_down = [ours.recv() for ours, _ in pipes]

    with closing(place.open()) as index:
        for _ in range(3):
            rebuild = index.rebuild()
            put_down += [ours.recv() for ours, _ in pipes for _ in range(10)]
            put_down += drained(ours for ours, _ in pipes)
            for start in range(0, len(put_down), 7):
                rebuild.upsert([document(name, "spoken words") for name in put_down[start : start + 7]])
            rebuild.finish()
        put_down += [ours.recv() for ours, _ in pipes for _ in range(10)]
        enough.set()
        for writer in writers:
            writer.join(60)
        put_down += drained(ours for ours, _ in pipes)

        assert [writer.exitcode for writer in writers] == [0, 0]
        assert [name for name in put_down if index.get(f"media-{name}") is None] == []
        assert index.count() == len(put_down)


def test_until_a_rebuild_is_finished_the_old_index_answers_alone(place: Place, index: SearchIndex) -> None:
    index.upsert([document("a", "hello"), document("gone", "hello")])

    rebuild = index.rebuild()
    rebuild.upsert([document("a", "hello, new")])
    index.upsert([document("b", "hello")])
    index.delete("ref-gone")

    assert (sorted(found(index, "hello")), found(index, "new")) == (["a", "b"], [])
    rebuild.finish()
    assert (sorted(found(index, "hello")), found(index, "new"), index.count()) == (["a", "b"], ["a"], 2)
    with closing(place.open()) as other:
        assert sorted(found(other, "hello")) == ["a", "b"]


def test_of_a_rebuild_a_document_can_be_taken_back(index: SearchIndex) -> None:
    rebuild = index.rebuild()
    rebuild.upsert([document("a", "hello"), document("b", "hello")])
    rebuild.delete("ref-a")
    rebuild.delete("ref-a")
    rebuild.finish()

    assert found(index, "hello") == ["b"]


def test_an_older_version_changes_nothing_in_a_rebuild_either(index: SearchIndex) -> None:
    rebuild = index.rebuild()
    index.upsert([document("a", "new words", version=5)])
    rebuild.upsert([document("a", "stale words", version=4)])
    rebuild.finish()

    assert (found(index, "new"), found(index, "stale")) == (["a"], [])


def test_an_abandoned_rebuild_leaves_the_index_as_it_was(index: SearchIndex) -> None:
    rebuild = index.rebuild()
    rebuild.upsert([document("a", "hello")])
    index.upsert([document("b", "hello")])
    rebuild.abandon()
    index.upsert([document("c", "hello")])

    assert sorted(found(index, "hello")) == ["b", "c"]


def test_a_rebuild_takes_the_place_of_one_that_was_broken_off_which_can_do_nothing_any_more(index: SearchIndex) -> None:
    index.upsert([document("old", "hello")])
    broken_off = index.rebuild()
    broken_off.upsert([document("lost", "hello")])

    rebuild = index.rebuild()
    rebuild.upsert([document("a", "hello")])
    with pytest.raises(SearchUnavailable, match="Somebody else"):
        broken_off.upsert([document("lost", "hello")])
    with pytest.raises(SearchUnavailable, match="Somebody else"):
        broken_off.finish()
    broken_off.abandon()
    index.upsert([document("b", "hello")])
    rebuild.finish()

    assert sorted(found(index, "hello")) == ["a", "b"]


def test_threads_share_an_index(index: SearchIndex) -> None:
    failures: list[Exception] = []

    def work(writer: int) -> None:
        try:
            for number in range(15):
                index.upsert([document(f"{writer}-{number}", "from a thread")])
                assert index.search(parse("thread")).total > number
        except Exception as error:  # noqa: BLE001 a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert index.count() == 60


def test_a_document_indexed_twice_counts_once_and_stays_as_it_was(index: SearchIndex) -> None:
    first = document("a", "Hello there")
    index.upsert([first])

    index.upsert([replace(first, indexed_at=NOON + 999)])

    shown = index.get("media-a")
    assert shown is not None
    assert (index.count(), replace(shown, indexed_at=first.indexed_at)) == (1, first)


def test_an_older_version_changes_nothing(index: SearchIndex) -> None:
    index.upsert([document("a", "new words", version=5)])

    index.upsert([document("a", "stale words", version=4)])

    assert (found(index, "new"), found(index, "stale")) == (["a"], [])


def test_a_newer_version_replaces_every_word_of_the_old_one(index: SearchIndex) -> None:
    index.upsert([document("a", "alpha beta", "don't 東京"), document("b", "alpha")])

    index.upsert([document("a", "gamma", version=2)])

    assert (found(index, "gamma"), found(index, "alpha"), found(index, "dont 京")) == (["a"], ["b"], [])


def test_the_same_version_with_other_content_replaces(index: SearchIndex) -> None:
    index.upsert([document("a", "before")])

    index.upsert([document("a", "after")])

    assert (found(index, "before"), found(index, "after")) == ([], ["a"])


def test_a_batch_with_one_ref_twice_keeps_the_highest_version(index: SearchIndex) -> None:
    index.upsert([document("a", "second", version=2), document("a", "first", version=1)])

    assert (index.count(), found(index, "second")) == (1, ["a"])


def test_a_deleted_document_is_not_found_by_anything(index: SearchIndex) -> None:
    index.upsert([document("a", "secret words"), document("b", "other words")])

    index.delete("ref-a")
    index.delete("ref-a")

    assert (found(index, "secret"), found(index, "words"), index.get("media-a"), index.count()) == ([], ["b"], None, 1)


def test_versions_are_read_page_by_page_in_the_order_of_their_refs(index: SearchIndex) -> None:
    index.upsert([document(name, "hello", version=number) for number, name in enumerate("dbcae", 1)])

    pages = [index.versions(after, 2) for after in (None, "ref-b", "ref-d")]

    assert pages == [[("ref-a", 4), ("ref-b", 2)], [("ref-c", 3), ("ref-d", 1)], [("ref-e", 5)]]


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("donde ESTA el niño", "¿Dónde está el nino?"),
        ("über osterreich strasse", "Uber Österreich, Straße!"),
        ("京", "東京タワーに行きました"),
        ("タワー", "東京タワーに行きました"),
        ("東京に*", "東京に行きました"),
        ("😀", "great 😀 thanks"),
        ("great thanks", "great😀thanks"),
        ("שלום", "שָׁלוֹם עולם"),
        ("مرحبا", "مَرْحَبًا بالعالم"),
        ("हिन्दी", "मैं हिन्दी बोलता हूँ"),
        ("안녕*", "안녕하세요"),
        ("dont o’brien", "Don’t call O'Brien"),
    ],
)
def test_every_script_is_found_and_marked(index: SearchIndex, text: str, spoken: str) -> None:
    index.upsert([document("a", spoken), document("b", "something else")])

    results = index.search(parse(text))

    assert names(results) == ["a"]
    assert results.hits[0].highlights


def test_japanese_in_another_order_is_not_found(index: SearchIndex) -> None:
    index.upsert([document("a", "京都と東海")])

    assert found(index, "東京") == []


def test_an_empty_transcript_is_found_by_its_media_id(index: SearchIndex) -> None:
    index.upsert([document("a", confidence=None), document("b", "words")])

    hit = index.search(parse("", media_id="media-a")).hits[0]

    assert (hit.ref, hit.snippet, hit.position_seconds, hit.confidence) == ("ref-a", "", None, None)


def test_a_transcript_of_60_000_words_is_found_at_its_end(index: SearchIndex) -> None:
    spoken = [" ".join(f"word{n}" for n in range(start, start + 1_000)) for start in range(0, 60_000, 1_000)]
    index.upsert([document("a", *spoken)])

    hit = index.search(parse('"word59998 word59999"')).hits[0]

    assert hit.marked().endswith("word59997 <<word59998 word59999>>")
    assert (hit.position_seconds, hit.speaker) == (590.0, "S59")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("credit card", {"a", "b"}),
        ('"credit card"', {"a"}),
        ('"card refund"', {"a"}),  # across segments
        ("canc*", {"a", "c"}),
        ('"please canc*"', {"c"}),
        ("cancel", {"c"}),
        ("card -refund", {"b"}),
        ('card -"credit card"', {"b"}),
        ("please -canc*", {"b"}),
        ("AND OR NOT NEAR", set()),
        ("text:card", set()),
    ],
)
def test_words_phrases_prefixes_and_exclusions(index: SearchIndex, text: str, expected: set[str]) -> None:
    index.upsert(
        [
            document("a", "I cancelled my credit card", "refund it"),
            document("b", "please card my credit"),
            document("c", "please cancel"),
        ]
    )

    assert set(found(index, text)) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"languages": ["en"]}, ["c", "a"]),
        ({"languages": ["EN-us"]}, ["a"]),
        ({"languages": ["es", "de"]}, ["b"]),
        ({"languages": ["e"] * 0, "backfill": "q4"}, ["b"]),
        ({"min_confidence": 0.9}, ["b", "a"]),
        ({"min_duration": 61}, ["b"]),
        ({"max_duration": 60.5}, ["a"]),
        ({"min_duration": 60.5, "max_duration": 3600}, ["b", "a"]),
        ({"redacted": True}, ["a"]),
        ({"redacted": False}, ["b"]),
        ({"since": NOON + 10}, ["c", "b"]),
        ({"until": NOON + 10.7}, ["b", "a"]),
        ({"since": NOON + 1, "until": NOON + 19}, ["b"]),
        ({"media_id": "media-c"}, ["c"]),
        ({"media_id": "media-unknown"}, []),
        ({"media_id": "media-a", "since": NOON + 10}, []),
    ],
)
@pytest.mark.parametrize("text", ["", "hello", "-absent"])
def test_filters_narrow_with_and_without_words(
    index: SearchIndex, text: str, filters: dict[str, object], expected: list[str]
) -> None:
    index.upsert(
        [
            document("a", "hello"),
            document(
                "b",
                "hello",
                languages=("es-ES", "fr"),
                backfill="q4",
                created_at=NOON + 10.2,
                confidence=0.95,
                duration_seconds=3600.0,
                redacted=False,
            ),
            document(
                "c",
                "hello",
                languages=("en-GB",),
                created_at=NOON + 20,
                confidence=None,
                duration_seconds=None,
                redacted=None,
            ),
        ]
    )

    assert found(index, text, sort="newest", **filters) == expected


def test_exclusions_work_beside_a_filter_alone(index: SearchIndex) -> None:
    index.upsert([document("a", "hello"), document("b", "goodbye")])

    assert found(index, "-hello", backfill="q3") == ["b"]


def test_pages_follow_each_other_and_know_the_total(index: SearchIndex) -> None:
    index.upsert([document(str(n), "hello", created_at=NOON + n) for n in range(25)])

    pages = [index.search(parse("hello", sort="newest", size=10, offset=offset)) for offset in (0, 10, 20, 30)]

    assert [(page.total, page.total_is_exact, len(page.hits)) for page in pages] == [
        (25, True, 10),
        (25, True, 10),
        (25, True, 5),
        (25, True, 0),
    ]
    assert [name for page in pages for name in names(page)] == [str(n) for n in reversed(range(25))]


def test_the_document_with_more_of_the_words_comes_first(index: SearchIndex) -> None:
    index.upsert(
        [
            document("rare", "hello " * 5),
            document("filler", "nothing of the kind", created_at=NOON + 1),
            document("passing", "hello and a great many other words " * 3, created_at=NOON + 2),
        ]
    )

    results = index.search(parse("hello"))

    assert names(results) == ["rare", "passing"]
    assert results.hits[0].score > results.hits[1].score


def test_a_hit_says_what_was_said_when_and_by_whom(index: SearchIndex) -> None:
    index.upsert([document("a", "Good morning", "I want a refund, please")])

    hit = index.search(parse("refund")).hits[0]

    assert hit.marked() == "Good morning I want a <<refund>>, please"
    assert [hit.snippet[start:end] for start, end in hit.highlights] == ["refund"]
    assert (hit.position_seconds, hit.speaker) == (10.0, "S1")
    assert (hit.media_id, hit.transcription_id, hit.backfill) == ("media-a", "transcription-a", "q3")
    assert (hit.confidence, hit.languages, hit.completed_at) == (0.9, ("en-US",), NOON + 40)
    assert (hit.duration_seconds, hit.redacted, hit.created_at) == (60.5, True, NOON)


def test_a_document_comes_back_as_it_was(index: SearchIndex) -> None:
    written = document("a", "Hola\nadiós 😀 \u202e!", redacted=None, started_at=None, latency_seconds=None)

    index.upsert([written])

    assert index.get("media-a") == written


def test_the_newest_document_of_a_media_id_is_shown(index: SearchIndex) -> None:
    index.upsert([document("new", media_id="m", created_at=NOON + 1), document("old", media_id="m")])

    shown = index.get("m")

    assert shown is not None
    assert shown.ref == "ref-new"


def test_more_recordings_in_one_second_than_a_manifest_has_keep_their_date(index: SearchIndex) -> None:
    index.upsert([document(str(n), "hello") for n in range(1_100)])

    assert index.search(parse("hello", since=NOON, until=NOON)).total == 1_100
    assert found(index, "hello", since=NOON + 1) == []


@pytest.fixture(scope="module")
def small_index(make_place: Callable[[], AbstractContextManager[Place]]) -> Iterator[SearchIndex]:
    with make_place() as place, closing(place.open()) as opened:
        opened.upsert([document("a", 'hello 東京 "quoted" text* AND é')])
        yield opened


SYNTAX = st.lists(
    st.sampled_from(
        ["hello", "東京", '"', "*", "-", "(", ")", "^", ":", "{", "}", "+", "AND", "NOT", "\x00", "'", "é", " "]
    )
).map("".join)


@settings(deadline=None)
@given(st.text() | SYNTAX, st.sampled_from([None, "q3"]))
def test_no_text_breaks_a_search(small_index: SearchIndex, text: str, backfill: str | None) -> None:
    try:
        query = parse(text, backfill=backfill)
    except InputError:
        return
    assert small_index.search(query).total in (0, 1)
