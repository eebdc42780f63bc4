"""What the database says about itself: whether what it has committed outlives a power cut."""

import sqlite3

from sqlalchemy import Connection, text

_SERVER = text(
    "SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS shown, "
    "current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes, "
    "current_setting('synchronous_commit') AS synchronous_commit"
)
_NOW = text("SELECT extract(epoch FROM clock_timestamp())::float8")
_LEVELS = {0: "off", 1: "normal", 2: "full", 3: "extra"}


def product(tx: Connection) -> tuple[str, int]:
    """Its name and version for people, and the version of a server as it counts it, 160003 for 16.3; 0 of a file."""
    if tx.dialect.name == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}", 0
    row = tx.execute(_SERVER).one()
    return f"PostgreSQL {row.shown}", row.version


def settings(tx: Connection) -> dict[str, str]:
    """What this session works with, by the database's own names."""
    if tx.dialect.name == "sqlite":
        level = tx.exec_driver_sql("PRAGMA synchronous").scalar_one()
        journal = str(tx.exec_driver_sql("PRAGMA journal_mode").scalar_one())
        return {"journal_mode": journal, "synchronous": _LEVELS.get(level, str(level))}
    row = tx.execute(_SERVER).one()
    return {name: getattr(row, name) for name in ("fsync", "full_page_writes", "synchronous_commit")}


def clock(tx: Connection) -> float | None:
    """The server's clock in Unix seconds, None of a file, which has none of its own."""
    return None if tx.dialect.name == "sqlite" else float(tx.execute(_NOW).scalar_one())
