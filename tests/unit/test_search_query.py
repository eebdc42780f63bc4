"""What a user types becomes the right terms or one clear sentence; what is found is shown where it stands."""

from dataclasses import fields

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.errors import InputError
from workers.model import Recording, Segment, Transcript, TranscriptionRequest
from workers.search.documents import Document, document_from, from_json, to_json
from workers.search.excerpt import WIDTH, excerpt
from workers.search.query import Query, Term, parse
from workers.search.words import searchable, words

SPEECH = st.text(st.sampled_from("aZé\u0301ß'’ -*\"1_東京ｶﾞシ😀مَ́हि\n\x00\ud800½⑴") | st.characters(), max_size=60)


OF_NO_MATTER = {field.name: None for field in fields(Recording)}
RECORDING = Recording(
    **OF_NO_MATTER
    | {
        "ref": "r1",
        "request": TranscriptionRequest("media-1", ("en-US", "es-ES")),
        "backfill": "q3",
        "duration_seconds": 61.5,
        "created_at": 1_700_000_000.25,
    }
)


def document(*texts: str) -> Document:
    segments = tuple(Segment(text, 0.9, f"S{n}", n * 10.0, n * 10.0 + 9) for n, text in enumerate(texts))
    return document_from(RECORDING, Transcript("t-1", segments, started_at=10.5, completed_at=40.0), 50.0, version=3)


def tokens(text: str) -> list[str]:
    return [word.token for word in words(text)]


def test_words_phrases_prefixes_and_exclusions_become_terms() -> None:
    assert parse('Refund "credit card" canc* -angry -"hold music"').terms == (
        Term("Refund", ("refund",)),
        Term("credit card", ("credit", "card")),
        Term("canc*", ("canc",), prefix=True),
        Term("angry", ("angry",), excluded=True),
        Term("hold music", ("hold", "music"), excluded=True),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e-mail", Term("e-mail", ("e", "mail"))),
        ("東京", Term("東京", ("東", "京"))),
        ('"credit car*"', Term("credit car*", ("credit", "car"), prefix=True)),
        ('"never closed', Term("never closed", ("never", "closed"))),
        ("“curly quotes”", Term("curly quotes", ("curly", "quotes"))),
        ("--odd", Term("-odd", ("odd",), excluded=True)),
        ("NEAR(", Term("NEAR(", ("near",))),
        ("text:refund", Term("text:refund", ("text", "refund"))),
        ("don’t", Term("don’t", ("dont",))),
    ],
)
def test_a_chunk_becomes_the_term_that_was_meant(text: str, expected: Term) -> None:
    assert parse(text, languages=["en"]).terms == (expected,)


def test_a_repeated_term_counts_once() -> None:
    assert len(parse("refund refund").terms) == 1


@pytest.mark.parametrize("text", ["", "   ", "?!", '""', "*", "-", "-refund", '"', "\x00"])
def test_a_query_with_nothing_to_find_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="nothing to find"):
        parse(text)


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ({"languages": ["en US"]}, "languages has 'en US'"),
        ({"since": -1}, "since is -1"),
        ({"until": 1e300}, "until is 1e"),
        ({"since": float("nan")}, "since is nan"),
        ({"since": 20, "until": 10}, "swap them"),
        ({"min_confidence": 80}, "min_confidence is 80"),
        ({"min_duration": -1}, "min_duration is -1"),
        ({"max_duration": float("nan")}, "max_duration is nan"),
        ({"min_duration": 90, "max_duration": 60}, "swap them"),
        ({"media_id": "a b"}, "media_id is 'a b'"),
        ({"media_id": "\ud800"}, "media_id is"),
        ({"backfill": "x" * 129}, "backfill is"),
        ({"sort": "oldest"}, "sort is 'oldest'"),
        ({"size": 0}, "size is 0"),
        ({"size": 101}, "size is 101"),
        ({"offset": -1}, "offset is -1"),
        ({"offset": 4_991}, "offset is 4991"),
    ],
)
def test_a_filter_that_makes_no_sense_is_named(filters: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        parse("refund", **filters)  # type: ignore[typeddict-item]


@pytest.mark.parametrize("text", ["x" * 1_001, " ".join(f"w{n}" for n in range(33)), "a*"])
def test_a_query_too_large_for_an_index_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse(text)


def test_empty_filters_do_not_filter() -> None:
    assert parse("refund", languages=[], media_id="", since=None, sort=None) == Query((Term("refund", ("refund",)),))


@given(st.text() | SPEECH)
def test_any_text_gives_a_query_or_a_sentence(text: str) -> None:
    try:
        query = parse(text)
    except InputError:
        return
    assert query.wanted
    assert all(term.tokens and all(term.tokens) for term in query.terms)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("¿Dónde está?", ["donde", "esta"]),
        ("Straße ÜBER", ["strasse", "uber"]),
        ("u\u0308ber", ["uber"]),
        ("l'hôpital don’t 'quoted'", ["lhopital", "dont", "quoted"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("ｶﾞ が か\u3099", ["ガ", "が", "が"]),
        ("ＡＢＣ", ["abc"]),
        ("ok😀👍🏽", ["ok", "😀", "👍"]),
        ("مَرْحَبًا", ["مرحبا"]),
        ("हिन्दी", ["हिन्दी"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("snake_case 3.5", ["snake", "case", "3", "5"]),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@given(SPEECH)
@example("ـ")
def test_both_ways_of_cutting_agree(text: str) -> None:
    assert [token for token in searchable(text).split(" ") if token] == tokens(text)


def test_an_excerpt_marks_the_place_with_most_terms() -> None:
    found = document("A refund.", *["Nothing to see here today."] * 20, "The credit card refund, don't wait")

    shown = excerpt(found, parse('refund "credit card" don\'t wai*').wanted)

    assert [shown.text[start:end] for start, end in shown.highlights] == ["credit card", "refund", "don't", "wait"]
    assert shown.text.startswith("…")
    assert len(shown.text) <= WIDTH + 2
    assert (shown.position_seconds, shown.speaker) == (210.0, "S21")


def test_an_excerpt_of_nothing_found_is_the_beginning() -> None:
    shown = excerpt(document("word " * 100), ())

    assert shown.text == "word " * 31 + "word…"
    assert (shown.highlights, shown.position_seconds) == ((), 0.0)


def test_an_excerpt_of_an_empty_transcript_is_empty() -> None:
    shown = excerpt(document(), ())

    assert (shown.text, shown.position_seconds, shown.speaker) == ("", None, None)


@given(st.lists(SPEECH | st.just("x" * 500), max_size=5), SPEECH)
def test_highlights_lie_in_order_within_the_excerpt(texts: list[str], typed: str) -> None:
    found = document(*texts)
    try:
        wanted = parse(typed).wanted
    except InputError:
        wanted = ()

    shown = excerpt(found, wanted)

    ends = [end for highlight in shown.highlights for end in highlight]
    assert ends == sorted(ends)
    assert all(start < end <= len(shown.text) for start, end in shown.highlights)
    assert "\n" not in shown.text


@given(st.lists(SPEECH, min_size=1, max_size=5), st.data())
def test_every_word_of_a_document_is_highlighted_when_asked_for(texts: list[str], data: st.DataObject) -> None:
    found = document(*texts)
    cut = list(words(found.text))
    if not cut:
        return
    word = data.draw(st.sampled_from(cut))

    shown = excerpt(found, (Term(word.token, (word.token,)),))

    assert tokens(shown.text[slice(*shown.highlights[0])])[0] == word.token


def test_the_json_form_has_the_names_that_other_programs_read() -> None:
    data = to_json(document("Hello", "world"))

    assert data["id"] == "t-1"
    assert data["mediaReference"] == "media-1"
    assert data["content"] == "Hello\nworld"
    assert data["confidence"] == pytest.approx(0.9)
    assert data["indexedAt"] == "1970-01-01T00:00:50.000000Z"
    assert data["segments"][1] == {"text": "world", "confidence": 0.9, "speaker": "S1", "start": 10.0, "end": 19.0}
    assert (data["redacted"], data["duration"], data["latency_seconds"]) == (None, 61.5, 29.5)


def test_the_json_form_reads_back_as_the_same_document() -> None:
    found = document("Hello", "¿Qué?")

    assert from_json(to_json(found)) == found


def test_languages_are_those_heard_else_those_asked_for() -> None:
    heard = Transcript("t", (Segment("Hola", language="es-ES"), Segment("Hi", language="en-US")))

    assert document("Hello").languages == ("en-US", "es-ES")
    assert document_from(RECORDING, heard, 1.0, 1).languages == ("es-ES", "en-US")
