"""What a shell completes beyond commands, options and states: the names of backfills."""

import sqlite3
from contextlib import closing
from typing import Annotated, Final

import typer

from config.settings import load_settings
from workers.ledger.engine import sqlite_path

MOST: Final = 200


def backfill_names(incomplete: str) -> list[str]:
    """The newest backfills of an SQLite ledger that begin like that; none where there is no such ledger.

    Never fails, says or makes anything, nor waits for a server: it runs while somebody types.
    """
    try:
        path = sqlite_path(load_settings().effective_database_url)
        if path is None or not path.is_file():
            return []
        # Not through Ledger, which may write beside the file.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.2)) as ledger:
            rows = ledger.execute(
                "SELECT name FROM backfills WHERE substr(name, 1, ?) = ? ORDER BY id DESC LIMIT ?",
                (len(incomplete), incomplete, MOST),
            )
            return [name for (name,) in rows]
    except Exception:  # noqa: BLE001 a person who presses the tab key wants no explanation
        return []


#: The argument NAME of a command about one backfill.
Name = Annotated[str, typer.Argument(help="The backfill.", autocompletion=backfill_names)]
