"""The enqueue contract: the message's frame, the verdict on each entry, and what the defaults fill in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import InputError
from workers.intake.entries import (
    Accepted,
    Defaults,
    Entry,
    Refused,
    check_backfill_name,
    message_schema,
    read_entries,
    read_entry,
    read_message,
    read_options,
    resolve,
)
from workers.intake.languages import normal_languages
from workers.model import Lane, TranscriptionRequest

DEFAULTS = Defaults(("en-US", "es-ES"), "policy-1", speaker_identification=True)
OPTIONS = "languages, redaction_policy_id, speaker_identification"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def message(*recordings: object, **fields: object) -> dict[str, object]:
    return {"backfill": "2026-q3", "recordings": list(recordings), **fields}


def reason(entry: object) -> str:
    verdict = read_entry(entry)
    assert isinstance(verdict, str), verdict
    return verdict


@pytest.mark.parametrize(
    ("given_tag", "normal"),
    [
        ("en-us", "en-US"),
        ("EN", "en"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("zh-YUE-hk", "zh-yue-HK"),
        ("sl-ROZAJ-BISKE-1994", "sl-rozaj-biske-1994"),
        ("de-ch-1abc", "de-CH-1abc"),
        ("DE-LATN-de-U-CO-phonebk", "de-Latn-DE-u-co-phonebk"),
        ("en-us-X-AB-latn", "en-US-x-ab-latn"),
        ("deutsch", "deutsch"),
    ],
)
def test_a_well_formed_tag_is_put_into_customary_case(given_tag: str, normal: str) -> None:
    assert normal_languages((given_tag,)) == (normal,)


@pytest.mark.parametrize(
    "tag",
    [
        "", "e", "en_US", "en-", "-en", "en--US", "klingon!", "en-US ", "en-US\n", "en-USA1", "x-private", "i-klingon",
        "en-u", "en-x", "en-toolongsubtag", "englishenglish", "eſ", "e\u212a", "en-" + "-".join(["abcde"] * 20),
    ],
)  # fmt: skip
def test_a_tag_that_breaks_the_grammar_is_refused_by_name(tag: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        normal_languages(("en", tag))
    assert caught.value.args == (tag,)


@given(st.from_regex(r"[a-zA-Z]{2,3}(-[a-zA-Z]{4})?(-[a-zA-Z]{2}|-[0-9]{3})?(-[a-zA-Z0-9]{5,8})?", fullmatch=True))
def test_normal_case_changes_nothing_but_case_and_is_stable(tag: str) -> None:
    (normal,) = normal_languages((tag,))
    assert normal.lower() == tag.lower()
    assert normal_languages((normal,)) == (normal,)


def test_languages_named_twice_are_kept_once_in_order() -> None:
    entry = read_entry({"media_id": "a", "languages": ["es-es", "en-US", "es-ES"]})
    assert isinstance(entry, Entry)
    assert entry.languages == ("es-ES", "en-US")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"media_id": "a b"}, "media_id: 'a b' is not an id: printable characters without spaces or slashes"),
        ({"media_id": "a/b"}, "media_id: 'a/b' is not an id: printable characters without spaces or slashes"),
        ({"media_id": "a\u200b"}, r"media_id: 'a\u200b' is not an id: printable characters without spaces or slashes"),
        ({"media_id": ""}, "media_id: '' has 0 characters, an id has 1 to 128"),
        ({"media_id": 5}, "media_id: 5 is not text in quotes"),
        ({"media_id": None}, "media_id: null is not text in quotes"),
        ({}, "media_id: missing, and needed"),
        ({"media_id": "a", "languages": ["klingon!"]}, "languages: 'klingon!' is not a BCP 47 tag such as en-US"),
        ({"media_id": "a", "languages": []}, "languages: [] has 0 tags, a request has 1 to 10"),
        ({"media_id": "a", "languages": "en-US"}, "languages: 'en-US' is not a list of BCP 47 tags such as en-US"),
        ({"media_id": "a", "languages": [["en"]]}, 'languages: [["en"]] is not a list of BCP 47 tags such as en-US'),
        ({"media_id": "a", "redaction_policy_id": ""}, "redaction_policy_id: '' has 0 characters, an id has 1 to 128"),
        ({"media_id": "a", "speaker_identification": 1}, "speaker_identification: 1 is not true or false"),
        (
            {"media_id": "a", "langauges": ["en"], "more": 1},
            f"langauges, more: not known here; the fields are {OPTIONS}, media_id",
        ),
        ("a", "entry: 'a' is not an object with fields"),
        (None, "entry: null is not an object with fields"),
    ],
)
def test_a_bad_entry_gets_one_sentence_with_field_and_value(entry: object, expected: str) -> None:
    assert reason(entry) == expected


def test_a_long_value_is_cut_in_the_reason() -> None:
    assert reason({"media_id": "m" * 129}) == f"media_id: '{'m' * 80}...' has 129 characters, an id has 1 to 128"
    assert "11 tags" in reason({"media_id": "a", "languages": ["en"] * 11})


def test_the_longest_id_is_accepted() -> None:
    assert isinstance(read_entry({"media_id": "é" * 128}), Entry)


def test_a_bad_entry_spoils_no_other() -> None:
    good, bad, last = read_entries(read_message(message({"media_id": "a"}, {"media_id": "b c"}, {"media_id": "d"})))
    assert (good, last) == (Accepted(0, Entry(media_id="a")), Accepted(2, Entry(media_id="d")))
    assert isinstance(bad, Refused)
    assert (bad.index, bad.media_id, bad.raw) == (1, "b c", '{"media_id": "b c"}')


def test_a_refused_entry_is_cut_and_made_printable() -> None:
    nested: list[object] = []
    for _ in range(300):
        nested = [nested]
    deep, odd = read_entries(read_message(message(nested, {"media_id": "a\x00\ud800"})))
    assert isinstance(deep, Refused)
    assert (len(deep.raw), deep.media_id) == (200, None)
    assert isinstance(odd, Refused)
    assert odd.media_id == "a\ufffd\ufffd"
    assert odd.raw.isascii()


@given(st.lists(JSON, max_size=5))
def test_whatever_the_entries_are_each_gets_a_verdict_in_order(entries: list[object]) -> None:
    verdicts = list(read_entries(read_message(message(*entries))))
    assert [verdict.index for verdict in verdicts] == list(range(len(entries)))
    for verdict in verdicts:
        if isinstance(verdict, Refused):
            assert len(verdict.raw) <= 200
            assert verdict.reason.encode()
            assert len(verdict.reason.splitlines()) == 1


def test_what_an_entry_leaves_out_or_null_comes_from_the_defaults() -> None:
    entry = Entry(media_id="a", languages=None)
    assert resolve(entry, DEFAULTS) == TranscriptionRequest("a", ("en-US", "es-ES"), "policy-1", True)


def test_what_an_entry_names_overrides_the_defaults() -> None:
    entry = Entry(media_id="a", languages=("de-de",), redaction_policy_id="p2", speaker_identification=False)
    assert resolve(entry, DEFAULTS) == TranscriptionRequest("a", ("de-DE",), "p2", False)


def test_defaults_of_a_message_override_those_of_the_place() -> None:
    read = read_message(message(defaults={"languages": ["fr-fr"], "speaker_identification": False}))
    assert DEFAULTS.overridden_by(read.defaults) == Defaults(("fr-FR",), "policy-1", speaker_identification=False)


def test_defaults_are_checked_and_normalised() -> None:
    assert Defaults(("en-us",)).languages == ("en-US",)
    with pytest.raises(InputError, match=r"^languages: 'en_US' is not a BCP 47 tag such as en-US\.$"):
        Defaults(("en_US",))
    with pytest.raises(InputError, match=r"^redaction_policy_id: 'a b' is not an id"):
        read_options({"redaction_policy_id": "a b"})


def test_a_message_is_for_the_backfill_lane_unless_it_says_live() -> None:
    assert read_message(message()).lane is Lane.BACKFILL
    assert read_message(message(lane="live")).lane is Lane.LIVE


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"recordings": [None] * 10_001}, "recordings: 10,001 entries are more than 10,000 a message"),
        ({"recordings": {}}, "recordings: {} is not a list"),
        ({"backfill": "Q 3"}, "backfill: 'Q 3' is not a name: 1 to 64 characters of a-z"),
        ({"backfill": "q3\n"}, r"backfill: 'q3\n' is not a name"),
        ({"backfill": None}, "backfill: null is not text"),
        ({"lane": "fast"}, "lane: 'fast' is not 'live' or 'backfill'"),
        ({"defaults": 1}, "defaults: 1 is not an object with fields"),
        ({"defaults": {"languages": ["x!"]}}, "defaults.languages: 'x!' is not a BCP 47 tag such as en-US"),
        (
            {"defaults": {"langauges": []}},
            f"defaults.langauges: not known here; the fields are {OPTIONS}",
        ),
        ({"prio": 1}, "prio: not known here; the fields are backfill, lane, defaults, recordings"),
    ],
)
def test_a_message_whose_frame_is_wrong_is_refused_with_one_sentence(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        read_message({**message(), **wrong})
    assert str(caught.value).startswith(f"The enqueue message can't be used: {says}")


def test_ten_thousand_entries_are_accepted() -> None:
    assert len(list(read_entries(read_message(message(*[{"media_id": "a"}] * 10_000))))) == 10_000


def test_a_backfill_name_is_checked() -> None:
    assert check_backfill_name("2026-q3_a.b") == "2026-q3_a.b"
    for name in ("", "A", "a b", "a\n", "a" * 65):
        with pytest.raises(InputError, match="can't be used"):
            check_backfill_name(name)


def test_the_schema_describes_the_message_and_its_entries() -> None:
    schema = json.loads(json.dumps(message_schema()))
    assert schema["required"] == ["backfill", "recordings"]
    assert schema["properties"]["recordings"] | {"description": "", "title": ""} == {
        "type": "array", "maxItems": 10_000, "items": {"$ref": "#/$defs/Entry"}, "description": "", "title": "",
    }  # fmt: skip
    entry = schema["$defs"]["Entry"]
    assert entry["required"] == ["media_id"]
    assert entry["additionalProperties"] is False
    assert entry["properties"]["media_id"]["maxLength"] == 128
    assert entry["properties"]["languages"]["anyOf"][0]["maxItems"] == 10
