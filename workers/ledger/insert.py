"""Inserts that leave what is there alone, in SQLite's and PostgreSQL's words."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_or_ignore(tx: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts the rows, passing over those that a unique constraint already has."""
    if not rows:
        return
    build = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    tx.execute(build(table).on_conflict_do_nothing(), rows)
