"""What backfills with a cap have spent: counted before a request leaves, given back when it was surely not accepted."""

from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from workers.ledger.statements import change
from workers.ledger.tables import PAUSED, backfills, charges, spending
from workers.model import Bounds, Recording

#: What a backfill may be paused for by its caps.
MAX_RECORDINGS: Final = "max_recordings"
MAX_AUDIO: Final = "max_audio"

_MINE: Final = spending.c.backfill_id == bindparam("backfill")
_SPENDING: Final = select(spending).where(_MINE)
_ADD: Final = (
    update(spending)
    .where(_MINE)
    .values(
        recordings=spending.c.recordings + bindparam("number"),
        audio_seconds=spending.c.audio_seconds + bindparam("seconds"),
    )
)
# In the statement itself: whoever waits for the row is judged by what the one before has committed.
_ADD_IF_IT_FITS: Final = _ADD.where(
    spending.c.max_recordings.is_(None) | (spending.c.recordings + bindparam("number") <= spending.c.max_recordings),
    spending.c.max_audio_seconds.is_(None)
    | (spending.c.audio_seconds + bindparam("seconds") <= spending.c.max_audio_seconds),
)
_CHARGE: Final = (charges.c.recording_id == bindparam("recording")) & (charges.c.epoch == bindparam("of"))
_CHARGES: Final = insert(charges)
_CHARGED: Final = select(charges.c.backfill_id).where(_CHARGE)
_FORGET: Final = delete(charges).where(_CHARGE).returning(charges.c.backfill_id, charges.c.audio_seconds)


@dataclass(frozen=True, slots=True)
class Spending:
    """The caps of a backfill, None where one is lifted, and what counts against them: all that is or may be paid for.

    `next_audio_seconds` is how long the recording is for which it was paused, None when it was not.
    """

    backfill_id: int
    max_recordings: int | None
    max_audio_seconds: float | None
    recordings: int
    audio_seconds: float
    next_audio_seconds: float | None

    @property
    def reached(self) -> str | None:
        """The cap under which the next recording has no room, None when it has."""
        if self.max_recordings is not None and self.recordings >= self.max_recordings:
            return MAX_RECORDINGS
        if self.max_audio_seconds is None:
            return None
        after = self.audio_seconds + (self.next_audio_seconds or 0.0)
        return MAX_AUDIO if after > self.max_audio_seconds or self.audio_seconds >= self.max_audio_seconds else None


def begin(tx: Connection, backfill_id: int, bounds: Bounds) -> None:
    """Has a new backfill's requests counted, if it has a cap."""
    if bounds.max_recordings is None and bounds.max_audio_seconds is None:
        return
    caps = {"max_recordings": bounds.max_recordings, "max_audio_seconds": bounds.max_audio_seconds}
    tx.execute(insert(spending).values(backfill_id=backfill_id, **caps, recordings=0, audio_seconds=0.0))


def of(tx: Connection, backfill_id: int) -> Spending | None:
    """What the backfill has spent, None when it never had a cap."""
    row = tx.execute(_SPENDING, {"backfill": backfill_id}).mappings().first()
    return Spending(**{field.name: row[field.name] for field in fields(Spending)}) if row else None


def reserve(tx: Connection, recording: Recording, backfill_id: int, epoch: int) -> bool:
    """Counts the POST that the intent with this epoch is about to send; False when the caps leave no room for it.

    To be called in the intent's transaction: what is not committed counts nowhere.
    """
    seconds = recording.duration_seconds or 0.0
    if tx.execute(_ADD_IF_IT_FITS, {"backfill": backfill_id, "number": 1, "seconds": seconds}).rowcount == 0:
        return False
    _charge(tx, recording, backfill_id, epoch)
    return True


def give_back(tx: Connection, recording_id: int, epoch: int) -> None:
    """Counts a POST no more that was surely not accepted; safe to repeat."""
    row = tx.execute(_FORGET, {"recording": recording_id, "of": epoch}).first()
    if row is not None:
        tx.execute(_ADD, {"backfill": row.backfill_id, "number": -1, "seconds": -row.audio_seconds})


def count_again(tx: Connection, recording: Recording, epoch: int) -> None:
    """Counts a POST whose reservation was given back and that was accepted all the same, whatever the cap says."""
    if tx.execute(_CHARGED, {"recording": recording.id, "of": epoch}).first() is not None:
        return
    seconds = recording.duration_seconds or 0.0
    if tx.execute(_ADD, {"backfill": recording.backfill_id, "number": 1, "seconds": seconds}).rowcount:
        _charge(tx, recording, recording.backfill_id, epoch)


def set_caps(tx: Connection, backfill_id: int, **caps: float | None) -> None:
    """Changes `max_recordings`, `max_audio_seconds` or both; None lifts one."""
    change(tx, spending, {"backfill_id": backfill_id}, caps)


def wait_for(tx: Connection, backfill_id: int, seconds: float | None) -> None:
    """Notes how long the recording is that had no room, so that nothing goes on before it has; None: there is none."""
    change(tx, spending, {"backfill_id": backfill_id}, {"next_audio_seconds": seconds})


def paused(tx: Connection) -> list[int]:
    """The backfills (ids) that are paused because a cap was reached."""
    capped = backfills.c.paused_for.in_((MAX_RECORDINGS, MAX_AUDIO))
    return list(tx.execute(select(backfills.c.id).where(backfills.c.state == PAUSED, capped)).scalars())


def _charge(tx: Connection, recording: Recording, backfill_id: int, epoch: int) -> None:
    row = {"recording_id": recording.id, "epoch": epoch, "backfill_id": backfill_id}
    tx.execute(_CHARGES, {**row, "audio_seconds": recording.duration_seconds or 0.0})
