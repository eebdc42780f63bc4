"""Ten thousand transcripts of every sort: each one is found by what was said only in it."""

from collections.abc import Iterator

import pytest

from tests.support.search import NOON, document, found, names
from workers.search.documents import Document
from workers.search.index import SearchIndex
from workers.search.query import parse
from workers.search.sqlite import SqliteIndex

NUMBER = 10_000
EMPTY, LONG = 4_017, 4_023


def rare(number: int) -> str:
    """What is said in this transcript only, in the script of the rest."""
    return (
        f"zebra{number}",
        f"ñandú{number}",
        f"東京{number}号室",
        f"😀{number}",
        f"מספר{number}",
        f"رقم{number}",
    )[number % 6 if number not in (EMPTY, LONG) else 0]


def spoken(number: int) -> list[str]:
    if number == EMPTY:
        return []
    if number == LONG:
        return [" ".join(f"word{n % 977}" for n in range(1_000)) for _ in range(60)] + [rare(number)]
    common = (
        ("I want to cancel my order, please", "The refund is on its way"),
        ("Quisiera cancelar mi pedido, por favor", "¿Dónde está el reembolso?"),
        ("注文をキャンセルしたいです", "返金は届いていますか"),
        ("thanks 🙏 so much 🎉", "no problem 👍🏽"),
        ("אני רוצה לבטל את ההזמנה", "תודה רבה"),
        ("أريد إلغاء طلبي", "شكرا جزيلا"),
    )[number % 6]
    return [common[0], f"{common[1]} {rare(number)}"]


def transcripts() -> Iterator[Document]:
    languages = ("en-US", "es-ES", "ja-JP", "en-GB", "he-IL", "ar-EG")
    for number in range(NUMBER):
        texts = spoken(number)
        yield document(
            str(number),
            *texts,
            created_at=NOON + number // 20,
            languages=(languages[number % 6],),
            confidence=0.9 if texts else None,
        )


def write_all(index: SearchIndex) -> None:
    documents = list(transcripts())
    for start in range(0, NUMBER, 100):
        index.upsert(documents[start : start + 100])


@pytest.mark.slow
def test_each_of_ten_thousand_is_found_by_a_rare_word_and_indexing_them_twice_adds_nothing(index: SearchIndex) -> None:
    for _ in range(2):
        write_all(index)

    assert index.count() == NUMBER
    step = 1 if isinstance(index, SqliteIndex) else 7  # the stand-in for a cluster takes its time
    others = [number for number in {LONG, *range(0, NUMBER, step)} if number != EMPTY]
    assert {number: hits for number in others if (hits := found(index, rare(number))) != [str(number)]} == {}
    assert found(index, "", media_id=f"media-{EMPTY}") == [str(EMPTY)]
    assert index.search(parse("cancel", languages=["en"])).total == 1_667
    assert len(index.versions(None, NUMBER + 1)) == NUMBER


@pytest.mark.slow
def test_pages_of_ten_thousand_overlap_nowhere(index: SearchIndex) -> None:
    write_all(index)

    pages = [index.search(parse("", languages=["es"], size=100, offset=offset)) for offset in range(0, 1_700, 100)]

    assert len({name for page in pages for name in names(page)}) == pages[0].total == 1_667
