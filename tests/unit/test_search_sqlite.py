"""The embedded index's own ways: its file, its limits and what it refuses."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.search import NOON, document, found, names
from workers.errors import SearchUnavailable
from workers.search import sqlite_file, sqlite_query
from workers.search.query import parse
from workers.search.sqlite import SqliteIndex


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.sqlite3"


def test_of_more_matches_than_are_ranked_the_newest_are(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_query, "MAX_REACH", 3)
    monkeypatch.setattr(sqlite_query, "MAX_COUNTED", 4)
    index = SqliteIndex(path)
    index.upsert([document(str(n), "hello", created_at=NOON + n) for n in range(5)])

    results = index.search(parse("hello"))

    assert names(results) == ["4", "3", "2"]
    assert (results.total, results.total_is_exact, results.ranked_all) == (4, False, False)


def test_a_full_second_goes_on_in_the_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.search.sqlite_write.IDS_A_SECOND", 2)
    index = SqliteIndex(path)
    for n in range(5):
        index.upsert([document(str(n), "hello")])

    assert found(index, "", backfill="q3") == ["4", "3", "2", "1", "0"]


def test_a_file_of_another_version_is_refused_until_it_is_rebuilt(path: Path) -> None:
    SqliteIndex(path).upsert([document("a", "hello")])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE meta SET value = 0 WHERE name = 'analyzer'")

    index = SqliteIndex(path)
    with pytest.raises(SearchUnavailable, match="retroscribe reindex"):
        index.count()
    rebuild = index.rebuild()
    rebuild.upsert([document("b", "goodbye")])
    rebuild.finish()

    assert (index.count(), SqliteIndex(path).count()) == (1, 1)


def test_another_database_is_never_touched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recordings (id INTEGER)")

    with pytest.raises(SearchUnavailable, match="no search index"):
        SqliteIndex(path).upsert([document("a", "hello")])
    with pytest.raises(SearchUnavailable, match="no search index"):
        SqliteIndex(path).rebuild()

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("recordings",)]


def test_a_file_that_is_no_database_is_named_and_stays(path: Path) -> None:
    path.write_bytes(b"not a database " * 100)
    index = SqliteIndex(path)

    with pytest.raises(SearchUnavailable, match=r"search\.sqlite3 can't be used"):
        index.count()
    with pytest.raises(SearchUnavailable, match="delete it"):
        index.rebuild()

    assert path.read_bytes() == b"not a database " * 100


def test_a_file_locked_for_too_long_is_unavailable_and_then_works(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)
    index = SqliteIndex(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SearchUnavailable, match="locked"):
            index.upsert([document("a", "hello")])

    index.upsert([document("a", "hello")])

    assert found(index, "hello") == ["a"]


def test_damage_is_found_by_the_check(path: Path) -> None:
    index = SqliteIndex(path)
    index.upsert([document(str(n), "hello " * 500) for n in range(50)])
    index.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM words_data WHERE id > 10 AND rowid % 2 = 1")

    with pytest.raises(SearchUnavailable):
        index.check()


def test_a_long_log_is_written_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.search.sqlite_pool._LONGEST_WAL", 1_000)
    index = SqliteIndex(path)

    index.upsert([document("a", "hello")])

    assert path.with_name("search.sqlite3-wal").stat().st_size == 0


def test_the_file_is_readable_by_its_owner_only(path: Path) -> None:
    SqliteIndex(path).upsert([document("a", "hello")])

    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}


def test_what_no_utf_8_can_hold_comes_back_as_it_was(path: Path) -> None:
    index, written = SqliteIndex(path), document("a", "lone \ud800 surrogate")

    index.upsert([written])

    assert (index.get("media-a"), found(index, "surrogate")) == (written, ["a"])


def test_of_rebuilds_only_the_present_file_stays(path: Path) -> None:
    index = SqliteIndex(path)
    index.upsert([document("a", "hello")])
    index.rebuild().upsert([document("a", "broken off")])
    for _ in range(2):
        rebuild = index.rebuild()
        rebuild.upsert([document("a", "hello")])
        rebuild.finish()
    assert found(index, "hello") == ["a"]
    index.close()

    files = sorted(file.name for file in path.parent.iterdir())

    assert (path.is_symlink(), len(files)) == (True, 2), files
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}


def test_a_rebuild_that_died_between_its_two_steps_is_complete(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = SqliteIndex(path)
    rebuild = index.rebuild()
    rebuild.upsert([document("a", "hello")])
    replace = Path.replace

    def replace_and_die(link: Path, target: Path) -> None:
        replace(link, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as death:
        death.setattr(Path, "replace", replace_and_die)
        with pytest.raises(KeyboardInterrupt):
            rebuild.finish()

    index.upsert([document("b", "hello")])

    assert sorted(found(index, "hello")) == ["a", "b"]
