"""Removes what was said in a recording from the ledger and leaves the receipt; the ids stay as a tombstone."""

from sqlalchemy import Connection, bindparam, delete, select, union_all, update

from workers.ledger import events, recordings
from workers.ledger.tables import IS_ASIDE, IS_NEW, double_acceptances, submissions, transcripts
from workers.ledger.tables import events as inbox
from workers.ledger.tables import transitions as history
from workers.model import Reason, Recording, State

#: What stands in the place of a body that was removed.
NOTHING = events.pack(b"")
REMOVED = "what it said was removed on request"

_TRANSCRIPT = delete(transcripts).where(transcripts.c.recording_id == bindparam("of"))
_OWN = inbox.c.recording_id == bindparam("of")
_BLANK = {"payload": NOTHING, "detail": REMOVED}
_UNREAD = update(inbox).where(IS_NEW, _OWN).values(**_BLANK, state=events.IGNORED)
_READ = update(inbox).where(_OWN, inbox.c.payload != NOTHING).values(_BLANK)
_IDS = union_all(
    select(submissions.c.transcription_id).where(
        submissions.c.recording_id == bindparam("of"), submissions.c.transcription_id.is_not(None)
    ),
    select(double_acceptances.c.transcription_id).where(double_acceptances.c.recording_id == bindparam("of")),
)
#: Delivered to a callback that was not its own, and kept aside.
_ASTRAY = (
    update(inbox)
    .where(IS_ASIDE, inbox.c.payload != NOTHING, inbox.c.transcription_id.in_(_IDS.subquery().select()))
    .values(_BLANK)
)
_RECEIPT = (
    select(history)
    .where(history.c.recording_id == bindparam("of"), history.c.to_state == State.FORGOTTEN)
    .order_by(history.c.id)
    .limit(1)
)


def forget(tx: Connection, recording: Recording, *, by: str) -> Recording:
    """Removes the text of a locked recording in a state of FORGETTABLE and makes it `forgotten`, with history.

    A message or a POST of it that has not begun does nothing then, and what comes of one that has is not kept.
    """
    had_transcript, bodies = erase_text(tx, recording.id)
    had = f"{'its transcript' if had_transcript else 'no transcript'} and {bodies} event{'' if bodies == 1 else 's'}"
    detail = f"What was said in it was removed on request ({had}); it is not transcribed again."
    moved = recordings.move(
        tx, recording, State.FORGOTTEN, by=by, reason=Reason.FORGOTTEN, detail=detail, new_epoch=True
    )
    assert moved is not None  # noqa: S101 the row is locked
    return moved


def erase_text(tx: Connection, recording_id: int) -> tuple[bool, int]:
    """Removes the transcript and the bodies of the events; gives whether there was one, and how many there were.

    The events' other columns stay, with which somebody can tell that they came. Safe to repeat.
    """
    mine = {"of": recording_id}
    unread = tx.execute(_UNREAD, mine).rowcount
    bodies = unread + tx.execute(_READ, mine).rowcount + tx.execute(_ASTRAY, mine).rowcount
    return tx.execute(_TRANSCRIPT, mine).rowcount > 0, bodies


def receipt(tx: Connection, recording_id: int) -> tuple[float, str]:
    """When (Unix seconds) and by whom a forgotten recording was."""
    row = tx.execute(_RECEIPT, {"of": recording_id}).one()
    return row.at, row.by
