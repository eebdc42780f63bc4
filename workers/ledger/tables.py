"""The ledger's tables; all times are Unix seconds (UTC), as the callers' clocks have them."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
    or_,
)

from workers.ledger.states import ACTIVE, SWEPT, WITH_REASONS, State
from workers.model import Reason

metadata: Final = MetaData()

#: The state of a backfill that is neither paused nor cancelled.
RUNNING: Final = "running"
#: Nothing of it is handed out or submitted: until it is resumed, or for good.
PAUSED: Final = "paused"
CANCELLED: Final = "cancelled"

# SQLite gives out row numbers by itself only for a column that is exactly INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")


def _in(column: str, values: frozenset[State]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in sorted(values))})"


backfills: Final = Table(
    "backfills",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("options", Text, nullable=False, comment="JSON: what its recordings default to"),
    Column("state", String(16), nullable=False, comment="running, paused or cancelled"),
    Column("created_at", Double, nullable=False),
)

recordings: Final = Table(
    "recordings",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("ref", String(32), nullable=False, unique=True, comment="random public id, uuid4 hex"),
    Column("media_id", String(128), nullable=False, index=True),
    Column("languages", Text, nullable=False, comment="BCP 47 tags separated by commas, the first is primary"),
    Column("redaction_policy_id", String(128)),
    Column("speaker_identification", Boolean, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False, unique=True, comment="SHA-256 over the request"),
    Column("backfill_id", _Id, ForeignKey("backfills.id"), nullable=False),
    Column("entry", BigInteger, nullable=False, comment="which line or message entry of the backfill asked for it"),
    Column("lane", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64)),
    Column("detail", Text),
    Column("epoch", Integer, nullable=False, comment="raised by each hand-out and intent: older messages do nothing"),
    Column("attempts", Integer, nullable=False, comment="failed tries of the present step; 429s don't count"),
    Column("resends", Integer, nullable=False, comment="how often the sweep sent it again since it last moved on"),
    Column("polls", Integer, nullable=False, comment="status look-ups of the present transcription"),
    Column("codec", String(64)),
    Column("format", String(64)),
    Column("duration_seconds", Double),
    Column("transcription_id", String(128), comment="of the current submission; theirs"),
    Column("repeats", _Id, comment="the submission that its next POST repeats byte for byte; null: a new one"),
    Column("due_at", Double, comment="when the pump or the sweep looks at it again"),
    Column("created_at", Double, nullable=False),
    Column("queued_at", Double),
    Column("validated_at", Double),
    Column("submitted_at", Double),
    Column("accepted_at", Double),
    Column("completed_at", Double),
    Column("indexed_at", Double),
    Column("changed_at", Double, nullable=False),
    CheckConstraint(f"NOT ({_in('state', ACTIVE)}) OR due_at IS NOT NULL", name="active_is_due"),
    Index("recordings_by_backfill", "backfill_id", "state", "id"),
)


def _is_one_of(values: frozenset[State]) -> ColumnElement[bool]:
    """Literals, not parameters: SQLite uses a partial index only when a query repeats its condition to the letter."""
    return recordings.c.state.in_([literal_column(repr(str(value))) for value in sorted(values)])


IS_PENDING: Final = _is_one_of(frozenset({State.PENDING}))
IS_OUT: Final = _is_one_of(frozenset({State.QUEUED, State.VALIDATED}))
IS_SWEPT: Final = _is_one_of(SWEPT)
Index(
    "recordings_to_pump",
    recordings.c.lane,
    recordings.c.backfill_id,
    recordings.c.id,
    sqlite_where=IS_PENDING,
    postgresql_where=IS_PENDING,
)
Index("recordings_out", recordings.c.lane, recordings.c.state, sqlite_where=IS_OUT, postgresql_where=IS_OUT)
Index("recordings_to_sweep", recordings.c.state, recordings.c.due_at, sqlite_where=IS_SWEPT, postgresql_where=IS_SWEPT)
#: Counted and shown by reason.
IS_WITH_REASON: Final = or_(_is_one_of(WITH_REASONS), recordings.c.reason == literal_column(repr(str(Reason.EMPTY))))
Index(
    "recordings_by_reason",
    recordings.c.backfill_id,
    recordings.c.state,
    recordings.c.reason,
    recordings.c.id,
    sqlite_where=IS_WITH_REASON,
    postgresql_where=IS_WITH_REASON,
)


def in_state_with_reason(state: State, dialect: str) -> ColumnElement[bool]:
    """That a recording is in this state of WITH_REASONS, in the words that have each database use the index above.

    SQLite wants the index's condition to the letter. PostgreSQL proves it from the state, and would take the condition
    for one that leaves so few rows that it reads and sorts them all.
    """
    mine = recordings.c.state == literal_column(repr(str(state)))
    return and_(mine, IS_WITH_REASON) if dialect == "sqlite" else mine


IS_ACCEPTED: Final = recordings.c.accepted_at.is_not(None)
Index(
    "recordings_accepted",
    recordings.c.backfill_id,
    recordings.c.submitted_at,
    sqlite_where=IS_ACCEPTED,
    postgresql_where=IS_ACCEPTED,
)

submissions: Final = Table(
    "submissions",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("recording_id", _Id, ForeignKey("recordings.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("callback_ref", String(32), nullable=False, unique=True),
    Column("epoch", Integer, nullable=False),
    Column("sent_at", Double, nullable=False),
    Column("settled_at", Double),
    Column("outcome", String(16), nullable=False, comment="open, accepted, refused, not_sent or unknown"),
    Column("http_status", Integer),
    Column("correlation_id", String(128)),
    Column("transcription_id", String(128), unique=True),
    Column("request_digest", LargeBinary(32), comment="SHA-256 of the body that was sent, to repeat it byte for byte"),
    Column("sends", Integer, nullable=False, server_default="1", comment="POSTs that may have left: 2 when repeated"),
    Column("failed_at", Double, comment="when the API said that what it accepted here has failed"),
    UniqueConstraint("recording_id", "number"),
)

double_acceptances: Final = Table(
    "double_acceptances",
    metadata,
    Column("transcription_id", String(128), primary_key=True, comment="paid for beside the recording's own"),
    Column("recording_id", _Id, ForeignKey("recordings.id"), nullable=False, index=True),
    Column("submission_id", _Id, ForeignKey("submissions.id"), nullable=False),
    Column("at", Double, nullable=False),
)

transitions: Final = Table(
    "transitions",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("recording_id", _Id, ForeignKey("recordings.id"), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("from_state", String(16), nullable=False),
    Column("to_state", String(16), nullable=False),
    Column("by", String(128), nullable=False, comment="task id, webhook, sweep or person"),
    Column("reason", String(64)),
    Column("detail", Text),
)

events: Final = Table(
    "events",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("received_at", Double, nullable=False),
    Column("callback_ref", String(32), nullable=False),
    Column("recording_id", _Id, ForeignKey("recordings.id"), comment="null: no such submission in this ledger"),
    Column("transcription_id", String(128), nullable=False),
    Column("type", String(64), nullable=False),
    Column("payload", LargeBinary, nullable=False, comment="as received, zlib"),
    Column("has_result", Boolean, nullable=False),
    Column("state", String(16), nullable=False, comment="new, applied, ignored, refused or unmatched"),
    Column("detail", Text),
    UniqueConstraint("recording_id", "transcription_id", "type"),
)
_IS_UNMATCHED: Final = events.c.recording_id.is_(None)
Index(
    "events_unmatched",
    events.c.callback_ref,
    events.c.transcription_id,
    events.c.type,
    unique=True,
    sqlite_where=_IS_UNMATCHED,
    postgresql_where=_IS_UNMATCHED,
)
#: Kept, and for no recording of ours.
IS_ASIDE: Final = events.c.state.in_([literal_column("'refused'"), literal_column("'unmatched'")])
Index("events_aside", events.c.state, events.c.id, sqlite_where=IS_ASIDE, postgresql_where=IS_ASIDE)
IS_NEW: Final = events.c.state == literal_column("'new'")
Index("events_waiting", events.c.id, sqlite_where=IS_NEW, postgresql_where=IS_NEW)

transcripts: Final = Table(
    "transcripts",
    metadata,
    Column("recording_id", _Id, ForeignKey("recordings.id"), primary_key=True, autoincrement=False),
    Column("transcription_id", String(128), nullable=False),
    Column("payload", LargeBinary, nullable=False, comment="as received, zlib"),
    Column("segments", Integer, nullable=False),
    Column("words", Integer, nullable=False),
    Column("average_confidence", Double),
    Column("latency_seconds", Double),
    Column("redacted", Boolean),
    Column("received_at", Double, nullable=False),
)

duplicates: Final = Table(
    "duplicates",
    metadata,
    Column("backfill_id", _Id, ForeignKey("backfills.id"), primary_key=True, autoincrement=False),
    Column("entry", BigInteger, primary_key=True, autoincrement=False),
    Column("recording_id", _Id, ForeignKey("recordings.id"), nullable=False, index=True),
)

intake_rejects: Final = Table(
    "intake_rejects",
    metadata,
    Column("backfill_id", _Id, ForeignKey("backfills.id"), primary_key=True, autoincrement=False),
    Column("entry", BigInteger, primary_key=True, autoincrement=False, comment="line or index"),
    Column("raw", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Double, nullable=False),
)

controls: Final = Table(
    "controls",
    metadata,
    Column("name", String(128), primary_key=True, comment="halt:CLIENT or limit:CLIENT:CLASS"),
    Column("value", Text, nullable=False, comment="JSON"),
    Column("since", Double, nullable=False),
)

leases: Final = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("expires_at", Double, nullable=False),
)
