"""Statements that are built once: building one anew costs five times as much as running it."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Insert,
    Table,
    Update,
    any_,
    bindparam,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from workers.ledger.postgresql import take_turn


def change(tx: Connection, table: Table, where: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Sets columns of the rows in which the `where` columns are equal; gives how many rows there were."""
    statement = _update(table, tuple(where), tuple(values))
    parameters = {f"where_{name}": value for name, value in where.items()}
    return tx.execute(statement, {**parameters, **{f"set_{name}": value for name, value in values.items()}}).rowcount


def insert_or_ignore(tx: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Inserts the rows, passing over those that a unique constraint already has; gives how many were new.

    A row that another transaction is about to insert is waited for.
    """
    return tx.execute(_insert_or_ignore(table, tx.dialect.name), rows).rowcount if rows else 0


def one_after_the_other(tx: Connection, what: str, *, patient: bool = False) -> None:
    """Has the transactions that do `what` wait for each other, however many machines there are.

    SQLite's writers do so anyway. Raises LedgerUnavailable when the turn does not come in time; `patient` ones wait as
    long as it takes.
    """
    if tx.dialect.name == "postgresql":
        take_turn(tx, zlib.crc32(what.encode()), patient=patient)


def among(tx: Connection, column: Column[Any], ids: Iterable[int]) -> ColumnElement[bool]:
    """That the column is one of these ids: one parameter, where `in_` would have the statement made anew each time."""
    if tx.dialect.name == "postgresql":
        return column == any_(literal(list(ids), ARRAY(BigInteger)))
    values = func.json_each(json.dumps(list(ids))).table_valued("value")
    return column.in_(select(values.c.value))


@lru_cache(maxsize=512)
def _update(table: Table, where: tuple[str, ...], columns: tuple[str, ...]) -> Update:
    conditions = [table.c[name] == bindparam(f"where_{name}") for name in where]
    return update(table).where(*conditions).values({name: bindparam(f"set_{name}") for name in columns})


@lru_cache(maxsize=64)
def _insert_or_ignore(table: Table, dialect: str) -> Insert:
    build = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return build(table).on_conflict_do_nothing().inline().execution_options(preserve_rowcount=True)
