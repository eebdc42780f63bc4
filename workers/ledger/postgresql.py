"""PostgreSQL as the ledger of several machines: how its sessions are set up, and which of its errors may pass."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError

from workers.errors import LedgerError

#: A statement waits no longer than this for a lock, and a thread for a connection.
LOCK_SECONDS: Final = 10
_LOCK_TIMEOUT: Final = f"lock_timeout={LOCK_SECONDS * 1000}"
#: A client that froze or went away in the middle of a transaction loses it, and with it its locks, after half a minute.
_OPTIONS: Final = f"-c {_LOCK_TIMEOUT} -c statement_timeout=300s -c idle_in_transaction_session_timeout=30s"
#: What the query of the URL says goes before these. A dead host or a broken path is noticed within a minute.
_CONNECT: Final[Mapping[str, Any]] = {
    "application_name": "retroscribe",
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    # Of several hosts the one that can be written to; a standby alone is as good as no server.
    "target_session_attrs": "read-write",
}

#: What is left of rows that were deleted or changed.
REMAINS: Final = (
    "PostgreSQL keeps what was removed in the files of its tables until they are rewritten: have its operator run "
    "VACUUM FULL transcripts, events; until then it is invisible but on the disk, and its archived log, replicas and "
    "backups have it for as long as they are kept."
)

#: The classes of SQLSTATE (PostgreSQL's Appendix A) that tell of the server and not of the statement: connection,
#: login, catalog, rollback by deadlock or conflict, resources, intervention, system and internal errors.
_NOT_OURS: Final = ("08", "28", "3D", "40", "53", "57", "58", "XX")
#: Read-only, both timeouts of a transaction, no privilege, object in use, no lock in time.
_NOT_OURS_EITHER: Final = ("25006", "25P03", "25P04", "42501", "55006", "55P03")
OTHER_SCHEMA: Final = "its tables are not those of this version: run `retroscribe migrate`"
#: No such schema, column or table.
_OTHER_SCHEMA: Final = ("3F000", "42703", "42P01")


def server_engine(url: URL) -> Engine:
    """A pool of sessions, each in READ COMMITTED unless told otherwise; raises LedgerError when psycopg is missing."""
    arguments = {name: value for name, value in _CONNECT.items() if name not in url.query}
    arguments["options"] = f"{_OPTIONS} {url.query.get('options', '')}".strip()
    try:
        engine = create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_size=10,
            max_overflow=10,  # a worker has 16 threads at most, and each holds a connection for milliseconds
            pool_timeout=LOCK_SECONDS,
            pool_pre_ping=True,
            hide_parameters=True,
            use_native_hstore=False,
            connect_args=arguments,
        )
    except ImportError:
        raise LedgerError(
            "RETROSCRIBE_DATABASE_URL names a PostgreSQL server, but its driver is not installed: "
            "install Retroscribe with its extra `postgres`, as requirements.image.lock has it."
        ) from None
    event.listen(engine, "connect", _make_durable)
    return engine


def reader(engine: Engine) -> Engine:
    """The same pool for transactions that see one moment and change nothing; costs no round trip more."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def trouble(error: DBAPIError) -> str | None:
    """Why the server can't be used now, None for a fault of ours; holds neither SQL nor values.

    Raises LedgerError for a URL that the driver does not take.
    """
    origin = error.orig
    state = getattr(origin, "sqlstate", None)
    if state is None:  # nothing that the server says about a statement: libpq speaks of the connection
        said = " ".join(str(origin).split())[:200]
        if isinstance(error, ProgrammingError) and error.statement is None:
            raise LedgerError(f"RETROSCRIBE_DATABASE_URL can't be used ({said}): correct it.")
        return said if isinstance(error, (OperationalError, InterfaceError)) else None
    if state in _OTHER_SCHEMA:
        return OTHER_SCHEMA
    return type(origin).__name__ if state.startswith(_NOT_OURS) or state in _NOT_OURS_EITHER else None


def take_turn(tx: Connection, key: int, *, patient: bool = False) -> None:
    """Has the transactions with the same key run one after the other; `patient` ones wait as long as it takes."""
    if patient:
        tx.exec_driver_sql("SET LOCAL lock_timeout = 0")
        tx.exec_driver_sql("SET LOCAL statement_timeout = 0")
    tx.execute(select(func.pg_advisory_xact_lock(key)))
    if patient:
        tx.exec_driver_sql(f"SET LOCAL {_LOCK_TIMEOUT}")


def _make_durable(connection: Any, _record: object) -> None:
    # What a crash of the server takes back after it was committed, such as an intent, could be paid for twice.
    connection.autocommit = True
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.autocommit = False
