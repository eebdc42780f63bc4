"""What bounds a backfill: caps and what counts against them, a canary, quiet hours, and why it is paused."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for column in (
        sa.Column(
            "paused_for",
            sa.String(length=16),
            comment="what paused it: max_recordings, max_audio or canary; null: a person",
        ),
        sa.Column("paused_detail", sa.Text(), comment="a sentence about that"),
        sa.Column("canary", sa.Integer(), comment="so many of its recordings go ahead of the rest; null: all go"),
        sa.Column("canary_state", sa.String(length=16), comment="flying, passed, failed or overruled"),
        sa.Column(
            "only_between",
            sa.String(length=100),
            comment="when it may go, such as 20:00-06:00 Europe/Madrid; null: always",
        ),
    ):
        op.add_column("backfills", column)
    op.create_table(
        "spending",
        sa.Column("backfill_id", _ID, autoincrement=False, nullable=False),
        sa.Column("max_recordings", sa.BigInteger(), comment="null: no such cap"),
        sa.Column("max_audio_seconds", sa.Double(), comment="null: no such cap"),
        sa.Column("recordings", sa.BigInteger(), nullable=False, comment="the sum of its charges"),
        sa.Column("audio_seconds", sa.Double(), nullable=False, comment="the sum of its charges"),
        sa.Column("next_audio_seconds", sa.Double(), comment="how long the recording is that it was paused for"),
        sa.ForeignKeyConstraint(["backfill_id"], ["backfills.id"]),
        sa.PrimaryKeyConstraint("backfill_id"),
    )
    op.create_table(
        "charges",
        sa.Column("recording_id", _ID, autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False, comment="of the intent to send one POST"),
        sa.Column("backfill_id", _ID, nullable=False, comment="whose cap it counts against"),
        sa.Column("audio_seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["recording_id"], ["recordings.id"]),
        sa.ForeignKeyConstraint(["backfill_id"], ["backfills.id"]),
        sa.PrimaryKeyConstraint("recording_id", "epoch"),
    )
    op.create_table(
        "canaries",
        sa.Column("backfill_id", _ID, autoincrement=False, nullable=False),
        sa.Column("recording_id", _ID, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["backfill_id"], ["backfills.id"]),
        sa.ForeignKeyConstraint(["recording_id"], ["recordings.id"]),
        sa.PrimaryKeyConstraint("backfill_id", "recording_id"),
    )
