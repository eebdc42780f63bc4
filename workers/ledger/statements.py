"""Statements that are built once: building one anew costs five times as much as running it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Insert, Table, Update, bindparam, update
from sqlalchemy.dialects import postgresql, sqlite


def change(tx: Connection, table: Table, where: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Sets columns of the rows in which the `where` columns are equal; gives how many rows there were."""
    statement = _update(table, tuple(where), tuple(values))
    parameters = {f"where_{name}": value for name, value in where.items()}
    return tx.execute(statement, {**parameters, **{f"set_{name}": value for name, value in values.items()}}).rowcount


def insert_or_ignore(tx: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts the rows, passing over those that a unique constraint already has."""
    if rows:
        tx.execute(_insert_or_ignore(table, tx.dialect.name), rows)


@lru_cache(maxsize=512)
def _update(table: Table, where: tuple[str, ...], columns: tuple[str, ...]) -> Update:
    conditions = [table.c[name] == bindparam(f"where_{name}") for name in where]
    return update(table).where(*conditions).values({name: bindparam(f"set_{name}") for name in columns})


@lru_cache(maxsize=64)
def _insert_or_ignore(table: Table, dialect: str) -> Insert:
    build = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return build(table).on_conflict_do_nothing()
