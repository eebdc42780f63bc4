"""What was deleted is in no file any more, not in gaps, free pages, logs or unmerged segments either."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.remains import files_with, files_with_text
from tests.support.search import NOON, document, found
from workers.errors import LedgerUnavailable
from workers.ledger import engine
from workers.ledger.engine import Ledger
from workers.search import sqlite_purge
from workers.search.sqlite import SqliteIndex
from workers.search.sqlite_write import write

WORDS = [f"word{number}" for number in range(3000)]


def test_a_rewritten_ledger_holds_nothing_of_deleted_rows_while_others_have_it_open(
    ledger: Ledger, ledger_url: str
) -> None:
    """Small bodies in the order in which transcriptions end: SQLite moves such rows, and leaves what was there."""
    dice = random.Random(1)
    order = sorted(range(800), key=lambda number: number + dice.random() * 200)
    bodies = {number: dice.randbytes(dice.randint(200, 900)) for number in order}
    path = Path(ledger_url.removeprefix("sqlite:///"))
    # As a ledger of a version that did not overwrite what it deleted.
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA synchronous = OFF")
        writer.execute("CREATE TABLE said (id INTEGER PRIMARY KEY, body BLOB)")
        for number in order:
            writer.execute("INSERT INTO said VALUES (?, ?)", (number, bodies[number]))
    gone = dice.sample(order, 100)

    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT count(*) FROM said").fetchone()
        with ledger.write() as tx:
            for number in gone:
                tx.exec_driver_sql("DELETE FROM said WHERE id = ?", (number,))
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert files_with(path.parent, b"".join(bodies[number] for number in gone)) != []

        assert ledger.rewrite() is None

        assert files_with(path.parent, b"".join(bodies[number] for number in gone)) == []
        assert other.execute("SELECT count(*) FROM said").fetchone() == (700,)


def test_a_reader_in_the_way_is_waited_for_and_then_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_SECONDS", 0.1)
    with ledger.read() as tx:
        tx.exec_driver_sql("SELECT count(*) FROM backfills").all()

        with pytest.raises(LedgerUnavailable, match="can't be rewritten now"):
            ledger.rewrite()

    assert ledger.rewrite() is None


class TestIndex:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "made" / "search.sqlite3"

    def test_a_purged_one_holds_no_word_of_what_was_deleted_and_finds_the_rest(self, path: Path) -> None:
        dice = random.Random(2)
        with closing(SqliteIndex(path)) as index, closing(SqliteIndex(path)) as other:
            for batch in range(40):
                index.upsert(
                    [
                        document(
                            f"{number}",
                            " ".join(dice.choices(WORDS, k=12)),
                            f"secretly{number} common",
                            created_at=NOON + (number + dice.random() * 100),
                        )
                        for number in range(batch * 10, batch * 10 + 10)
                    ]
                )
            assert other.count() == 400
            gone = dice.sample(range(400), 60)
            with closing(sqlite3.connect(path)) as look:
                statement = "SELECT body FROM documents JOIN bodies USING (id) WHERE ref = ?"
                bodies = b"".join(look.execute(statement, (f"ref-{one}",)).fetchone()[0] for one in gone)
                kept = [body for (body,) in look.execute("SELECT body FROM bodies")]
            rest = [body for body in kept if body not in bodies]
            # As an SQLite that was built to leave what it deletes.
            with closing(sqlite3.connect(path, isolation_level=None)) as deleting:
                deleting.execute("PRAGMA secure_delete = OFF")
                write(deleting, {f"ref-{one}": None for one in gone})
            assert files_with(path.parent, bodies, but_not=rest) != []

            assert index.purge() is None

            assert files_with(path.parent, bodies, but_not=rest) == []
            assert [one for one in gone if files_with_text(path.parent, f"ecretly{one}")] == []
            assert (other.count(), len(found(other, "common", size=100))) == (340, 100)
            assert all(found(other, f"secretly{one}") == [f"{one}"] for one in range(400) if one not in gone)
            index.check()

    def test_purging_is_done_in_steps_and_merges_all_there_is(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_purge, "_PAGES", 2)
        dice = random.Random(3)
        with closing(SqliteIndex(path)) as index:
            for number in range(40):
                index.upsert([document(str(number), " ".join(dice.choices(WORDS, k=300)))])
            for number in range(0, 40, 2):
                index.delete(f"ref-{number}")

            index.purge()

            with closing(sqlite3.connect(path)) as look:
                assert look.execute("SELECT count(DISTINCT segid) FROM words_idx").fetchone() == (1,)
            index.check()
