"""What a person sees of a search: who said it, when, how sure the API was, where in the call, and how to go on."""

import re

import pytest

from tests.support.desk import Desk
from tests.support.desk_command import DeskCommand
from tests.support.search import NOON, document

DAY = "2023-11-14"  # on which NOON is, in UTC


@pytest.fixture(autouse=True)
def calls(desk: Desk) -> None:
    desk.resources.index.upsert(
        [
            document("a", "Good morning", "I want a refund, please"),
            document(
                "b",
                "No refund\x1b[2J",
                created_at=NOON + 86_400,
                duration_seconds=3_700.0,
                redacted=False,
                languages=("es-ES",),
                confidence=None,
            ),
        ]
    )


def test_a_hit_is_shown_with_who_when_confidence_and_where_it_was_said(command: DeskCommand) -> None:
    answer = command("search", "refund", "--redacted")

    assert answer.code == 0
    assert re.fullmatch(
        r"1 transcript found\n\n"
        r"1\. media-a  2023-11-1\d \d\d:\d\d:\d\d \S+  1 min 0 s  en-US  confidence 0\.90  redacted  q3\n"
        r"   0:10 S1: Good morning I want a \*refund\*, please\n",
        answer.out,
    )


def test_what_was_said_does_not_steer_the_terminal(command: DeskCommand) -> None:
    answer = command("search", "refund", "--language", "es")

    assert "\x1b" not in answer.out
    assert "No *refund*\ufffd[2J" in answer.out


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--not-redacted"], ["media-b"]),
        (["--min-duration", "3600"], ["media-b"]),
        (["--max-duration", "60.5"], ["media-a"]),
        (["--until", DAY], ["media-a"]),
        (["--since", "2023-11-15"], ["media-b"]),
        (["--since", "2023-11-14T22:13:20Z", "--until", "2023-11-14T23:13:20+01:00"], ["media-a"]),
        (["--backfill", "q3", "--sort", "newest"], ["media-b", "media-a"]),
    ],
)
def test_filters_are_options(command: DeskCommand, filters: list[str], found: list[str]) -> None:
    hits = command("search", "refund", *filters, "--json").json["hits"]

    assert [hit["media_id"] for hit in hits] == found


def test_the_next_page_is_named_until_there_is_none(command: DeskCommand) -> None:
    first = command("search", "refund", "--size", "1", "--sort", "newest")
    last = command("search", "refund", "--size", "1", "--sort", "newest", "--offset", "1")

    assert ("1. media-b" in first.out, first.out.endswith("More with --offset 1\n")) == (True, True)
    assert ("2. media-a" in last.out, "More" in last.out) == (True, False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["refund", "--since", "yesterday"], "--since is 'yesterday': give a day such as 2026-11-24"),
        (["refund", "--min-duration", "90", "--max-duration", "60"], "min_duration (90 s) is more than max_duration"),
        (["a*"], "'a*' would find nearly everything"),
    ],
)
def test_a_query_that_can_not_be_is_refused_in_one_sentence(
    command: DeskCommand, arguments: list[str], says: str
) -> None:
    answer = command("search", *arguments)

    assert (answer.code, answer.out) == (2, "")
    assert says in answer.err
    assert answer.err.count("\n") == 1


def test_an_index_without_documents_is_told_from_one_that_has_not_what_is_searched_for(
    desk: Desk, command: DeskCommand
) -> None:
    assert command("search", "nowhere").err == ""

    desk.resources.index.delete("ref-a")
    desk.resources.index.delete("ref-b")

    answer = command("search", "nowhere")
    assert answer.out == "0 transcripts found\n"
    assert f"The search index {desk.resources.settings.search_path} is empty" in answer.err
    assert "where the workers of role index run" in answer.err
