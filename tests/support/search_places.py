"""Where a search index of each kind is in tests: opened there by any process, and read through at the end."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.support.opensearch import opener
from workers.search.index import SearchIndex
from workers.search.opensearch_cluster import Access
from workers.search.sqlite import SqliteIndex

KINDS: Final = ("sqlite", "opensearch")

Open = Callable[[], SearchIndex]  # can be pickled: other processes open the same index with it


@dataclass(frozen=True)
class Place:
    """Where an index of one kind is: how it is opened, and how it is read through for damage."""

    open: Open

    def check(self) -> None:
        with closing(self.open()) as index:
            index.check()


@contextmanager
def sqlite_place(folder: Path) -> Iterator[Place]:
    place = Place(partial(SqliteIndex, folder / "made" / "search.sqlite3"))
    yield place
    place.check()


@contextmanager
def opensearch_place(access: Access) -> Iterator[Place]:
    with opener(access) as opens:
        place = Place(opens)
        yield place
        place.check()
