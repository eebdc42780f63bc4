"""What proves a submission: repeats with the same body, failures by id, and acceptances beyond the one wanted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SWEPT = sa.text("state IN ('completed', 'queued', 'submitting', 'transcribing', 'unknown', 'validated')")
_ASIDE = sa.text("state IN ('refused', 'unmatched')")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "recordings",
        sa.Column("repeats", _ID, comment="the submission that its next POST repeats byte for byte; null: a new one"),
    )
    op.add_column(
        "submissions",
        sa.Column(
            "request_digest",
            sa.LargeBinary(length=32),
            comment="SHA-256 of the body that was sent, to repeat it byte for byte",
        ),
    )
    op.add_column(
        "submissions",
        sa.Column(
            "sends",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="POSTs that may have left: 2 when repeated",
        ),
    )
    op.add_column(
        "submissions",
        sa.Column("failed_at", sa.Double(), comment="when the API said that what it accepted here has failed"),
    )
    op.create_table(
        "double_acceptances",
        sa.Column(
            "transcription_id",
            sa.String(length=128),
            nullable=False,
            comment="paid for beside the recording's own",
        ),
        sa.Column("recording_id", _ID, nullable=False),
        sa.Column("submission_id", _ID, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["recording_id"], ["recordings.id"]),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"]),
        sa.PrimaryKeyConstraint("transcription_id"),
    )
    op.drop_index("recordings_to_sweep", "recordings")
    op.create_index(
        "recordings_to_sweep", "recordings", ["state", "due_at"], sqlite_where=_SWEPT, postgresql_where=_SWEPT
    )
    op.create_index("ix_double_acceptances_recording_id", "double_acceptances", ["recording_id"])
    op.create_index("events_aside", "events", ["state", "id"], sqlite_where=_ASIDE, postgresql_where=_ASIDE)
    op.create_index(
        "events_unmatched",
        "events",
        ["callback_ref", "transcription_id", "type"],
        unique=True,
        sqlite_where=sa.text("recording_id IS NULL"),
        postgresql_where=sa.text("recording_id IS NULL"),
    )
