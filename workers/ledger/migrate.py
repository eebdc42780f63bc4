"""Brings the ledger's schema to the version that this code speaks."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from workers.errors import LedgerError
from workers.ledger.engine import Ledger
from workers.ledger.statements import one_after_the_other


def migrate(ledger: Ledger) -> tuple[str | None, str]:
    """Applies what is missing, in one transaction; gives the version before and after.

    Safe to repeat, also by several machines at once: one does it, the others wait and find it done.
    """
    config = _config()
    with ledger.write() as tx:
        one_after_the_other(tx, "migrate", patient=True)
        before = _version(tx)
        config.attributes["connection"] = tx
        command.upgrade(config, "head")
    return before, head_version()


def check_version(ledger: Ledger) -> None:
    """Raises LedgerError with the next step when the ledger's schema is not the one that this code speaks."""
    current, head = current_version(ledger), head_version()
    if current == head:
        return
    what = "has no tables yet" if current is None else f"has schema {current}, this version needs {head}"
    raise LedgerError(f"The ledger {what}: run `retroscribe migrate` once, then start again.")


def current_version(ledger: Ledger) -> str | None:
    with ledger.read() as tx:
        return _version(tx)


def head_version() -> str:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # noqa: S101 there is at least one migration
    return head


def _version(tx: Connection) -> str | None:
    return MigrationContext.configure(tx).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config
