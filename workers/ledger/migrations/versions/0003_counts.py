"""Lets the counts of a backfill of millions, and its list, be read from indexes alone."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_WITH_REASON = sa.text("state IN ('cancelled', 'failed', 'parked', 'rejected') OR reason = 'empty'")
_ACCEPTED = sa.text("accepted_at IS NOT NULL")
_PENDING = sa.text("state IN ('pending')")


def upgrade() -> None:
    op.drop_index("recordings_by_backfill", "recordings")
    op.create_index("recordings_by_backfill", "recordings", ["backfill_id", "state", "id"])
    # Of two indexes that look equally good SQLite takes the newer one, and the pump's has to be that.
    op.drop_index("recordings_to_pump", "recordings")
    op.create_index(
        "recordings_to_pump",
        "recordings",
        ["lane", "backfill_id", "id"],
        sqlite_where=_PENDING,
        postgresql_where=_PENDING,
    )
    op.create_index(
        "recordings_by_reason",
        "recordings",
        ["backfill_id", "state", "reason", "id"],
        sqlite_where=_WITH_REASON,
        postgresql_where=_WITH_REASON,
    )
    op.create_index(
        "recordings_accepted",
        "recordings",
        ["backfill_id", "submitted_at"],
        sqlite_where=_ACCEPTED,
        postgresql_where=_ACCEPTED,
    )
