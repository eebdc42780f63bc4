"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "backfills",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("options", sa.Text(), nullable=False, comment="JSON: what its recordings default to"),
        sa.Column("state", sa.String(length=16), nullable=False, comment="running, paused or cancelled"),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "controls",
        sa.Column("name", sa.String(length=128), nullable=False, comment="halt:CLIENT or limit:CLIENT:CLASS"),
        sa.Column("value", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "intake_rejects",
        sa.Column(
            "backfill_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("entry", sa.BigInteger(), autoincrement=False, nullable=False, comment="line or index"),
        sa.Column("raw", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["backfill_id"],
            ["backfills.id"],
        ),
        sa.PrimaryKeyConstraint("backfill_id", "entry"),
    )
    op.create_table(
        "recordings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ref", sa.String(length=32), nullable=False, comment="random public id, uuid4 hex"),
        sa.Column("media_id", sa.String(length=128), nullable=False),
        sa.Column(
            "languages", sa.Text(), nullable=False, comment="BCP 47 tags separated by commas, the first is primary"
        ),
        sa.Column("redaction_policy_id", sa.String(length=128), nullable=True),
        sa.Column("speaker_identification", sa.Boolean(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False, comment="SHA-256 over the request"),
        sa.Column("backfill_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "entry", sa.BigInteger(), nullable=False, comment="which line or message entry of the backfill asked for it"
        ),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column(
            "epoch",
            sa.Integer(),
            nullable=False,
            comment="raised by each hand-out and intent: older messages do nothing",
        ),
        sa.Column(
            "attempts", sa.Integer(), nullable=False, comment="failed tries of the present step; 429s don't count"
        ),
        sa.Column(
            "resends", sa.Integer(), nullable=False, comment="how often the sweep sent it again since it last moved on"
        ),
        sa.Column("polls", sa.Integer(), nullable=False, comment="status look-ups of the present transcription"),
        sa.Column("codec", sa.String(length=64), nullable=True),
        sa.Column("format", sa.String(length=64), nullable=True),
        sa.Column("duration_seconds", sa.Double(), nullable=True),
        sa.Column(
            "transcription_id", sa.String(length=128), nullable=True, comment="of the current submission; theirs"
        ),
        sa.Column("due_at", sa.Double(), nullable=True, comment="when the pump or the sweep looks at it again"),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("queued_at", sa.Double(), nullable=True),
        sa.Column("validated_at", sa.Double(), nullable=True),
        sa.Column("submitted_at", sa.Double(), nullable=True),
        sa.Column("accepted_at", sa.Double(), nullable=True),
        sa.Column("completed_at", sa.Double(), nullable=True),
        sa.Column("indexed_at", sa.Double(), nullable=True),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "NOT (state IN ('completed', 'pending', 'queued', 'submitting', 'transcribing', 'unknown', 'validated')) OR due_at IS NOT NULL",
            name="active_is_due",
        ),
        sa.ForeignKeyConstraint(
            ["backfill_id"],
            ["backfills.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("fingerprint"),
        sa.UniqueConstraint("ref"),
    )
    op.create_index(op.f("ix_recordings_media_id"), "recordings", ["media_id"], unique=False)
    op.create_index("recordings_by_backfill", "recordings", ["backfill_id", "state"], unique=False)
    op.create_index(
        "recordings_out",
        "recordings",
        ["lane", "state"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'validated')"),
        postgresql_where=sa.text("state IN ('queued', 'validated')"),
    )
    op.create_index(
        "recordings_to_pump",
        "recordings",
        ["lane", "backfill_id", "id"],
        unique=False,
        sqlite_where=sa.text("state IN ('pending')"),
        postgresql_where=sa.text("state IN ('pending')"),
    )
    op.create_index(
        "recordings_to_sweep",
        "recordings",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('completed', 'queued', 'submitting', 'transcribing', 'unknown', 'validated')"),
        postgresql_where=sa.text(
            "state IN ('completed', 'queued', 'submitting', 'transcribing', 'unknown', 'validated')"
        ),
    )
    op.create_table(
        "duplicates",
        sa.Column(
            "backfill_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("entry", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recording_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["backfill_id"],
            ["backfills.id"],
        ),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
        ),
        sa.PrimaryKeyConstraint("backfill_id", "entry"),
    )
    op.create_index(op.f("ix_duplicates_recording_id"), "duplicates", ["recording_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("callback_ref", sa.String(length=32), nullable=False),
        sa.Column(
            "recording_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="null: no such submission in this ledger",
        ),
        sa.Column("transcription_id", sa.String(length=128), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="as received, zlib"),
        sa.Column("has_result", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False, comment="new, applied, ignored, refused or unmatched"),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("recording_id", "transcription_id", "type"),
    )
    op.create_index(
        "events_waiting",
        "events",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'new'"),
        postgresql_where=sa.text("state = 'new'"),
    )
    op.create_table(
        "submissions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("recording_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("callback_ref", sa.String(length=32), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=False),
        sa.Column("settled_at", sa.Double(), nullable=True),
        sa.Column(
            "outcome", sa.String(length=16), nullable=False, comment="open, accepted, refused, not_sent or unknown"
        ),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("correlation_id", sa.String(length=128), nullable=True),
        sa.Column("transcription_id", sa.String(length=128), nullable=True),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("callback_ref"),
        sa.UniqueConstraint("recording_id", "number"),
        sa.UniqueConstraint("transcription_id"),
    )
    op.create_table(
        "transcripts",
        sa.Column(
            "recording_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("transcription_id", sa.String(length=128), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="as received, zlib"),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("words", sa.Integer(), nullable=False),
        sa.Column("average_confidence", sa.Double(), nullable=True),
        sa.Column("latency_seconds", sa.Double(), nullable=True),
        sa.Column("redacted", sa.Boolean(), nullable=True),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
        ),
        sa.PrimaryKeyConstraint("recording_id"),
    )
    op.create_table(
        "transitions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("recording_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=False),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False, comment="task id, webhook, sweep or person"),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_transitions_recording_id"), "transitions", ["recording_id"], unique=False)
