"""Takes recordings into the ledger, from a manifest or from a message, in bounded transactions."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

import structlog

from workers import dispatch
from workers.errors import InputError, PartUnreachable
from workers.intake.entries import Defaults, Refused, read_entries, read_entry, read_message, resolve
from workers.intake.manifest import Row
from workers.ledger import backfills, recordings
from workers.model import Lane, Recording
from workers.resources import Resources

log = structlog.get_logger(__name__)

BATCH: Final = 500
#: A message's entries lie side by side: 14 bits hold the 10,000 of one message, the rest is the message's digest.
_INDEX_BITS: Final = 14


@dataclass(slots=True)
class Taken:
    """What became of the entries so far; `repeated` ones were taken in by an earlier run of the same list."""

    accepted: int = 0
    duplicates: int = 0
    repeated: int = 0
    rejected: int = 0


def take_rows(
    resources: Resources, backfill: str, rows: Iterable[Row], *, defaults: Defaults, lane: Lane, by: str
) -> Iterator[Taken]:
    """Takes a manifest in, 500 rows a transaction, telling after each how far it is.

    Raises InputError when the backfill exists with other options. Safe to repeat: the same list adds nothing.
    """
    options = {**asdict(defaults), "languages": list(defaults.languages)}
    with resources.ledger.write() as tx:
        target = backfills.ensure(tx, backfill, options)
    taken = Taken()
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        asked = [backfills.Asked(row.line, row.request) for row in batch if row.request is not None]
        refused = [backfills.Refused(row.line, row.raw, row.reason or "") for row in batch if row.request is None]
        _take(resources, target, lane, asked, refused, taken, by=by)
        yield taken
    announce()


def enqueue(resources: Resources, message: Mapping[str, Any], *, by: str) -> dict[str, Any]:
    """Takes the message of another app in and gives a verdict on each of its entries.

    Raises InputError when the message as a whole can't be used. Safe to repeat: the same message adds nothing.
    """
    content = read_message(message)
    base = Defaults(resources.settings.languages)
    defaults = base.overridden_by(content.defaults)
    with resources.ledger.write() as tx:
        target = backfills.ensure(tx, content.backfill, {})
    place = _place(content.model_dump(mode="json"))
    taken = Taken()
    rejected: list[dict[str, Any]] = []
    verdicts = read_entries(content)
    while batch := list(islice(verdicts, BATCH)):
        asked: list[backfills.Asked] = []
        refused: list[backfills.Refused] = []
        for one in batch:
            if isinstance(one, Refused):
                refused.append(backfills.Refused(place + one.index, one.raw, one.reason))
                rejected.append({"index": one.index, "media_id": one.media_id, "reason": one.reason})
            else:
                asked.append(backfills.Asked(place + one.index, resolve(one.entry, defaults)))
        _take(resources, target, content.lane, asked, refused, taken, by=by)
    announce()
    return {
        "backfill": content.backfill,
        "accepted": taken.accepted + taken.repeated,
        "duplicates": taken.duplicates,
        "rejected": rejected,
    }


def request_transcription(
    resources: Resources, media_id: str, *, defaults: Defaults, backfill: str, lane: Lane = Lane.LIVE, by: str
) -> Recording:
    """Asks for one recording's transcript and gives the recording as it stands now, whoever asked for it first.

    Raises InputError when the media id can't be used. Safe to repeat: the same request is paid for once.
    """
    entry = read_entry({"media_id": media_id})
    if isinstance(entry, str):
        raise InputError(f"{entry}.")
    request = resolve(entry, defaults)
    place = int.from_bytes(request.fingerprint()[:6], "big") << _INDEX_BITS
    with resources.ledger.write() as tx:
        target = backfills.ensure(tx, backfill, {})
        backfills.add(tx, target, lane, [backfills.Asked(place, request)], by=by)
        recording = recordings.by_fingerprint(tx, request.fingerprint())
    assert recording is not None  # noqa: S101 it was just added
    announce()
    return recording


def announce() -> None:
    """Has the pump run now; without a broker it runs when it is back."""
    try:
        dispatch.send_pump()
    except PartUnreachable as error:
        log.warning("pump_not_asked", detail=str(error))


def _take(
    resources: Resources,
    target: backfills.Backfill,
    lane: Lane,
    asked: list[backfills.Asked],
    refused: list[backfills.Refused],
    taken: Taken,
    *,
    by: str,
) -> None:
    with resources.ledger.write() as tx:
        result = backfills.add(tx, target, lane, asked, by=by)
        backfills.refuse(tx, target, refused)
    taken.accepted += result.accepted
    taken.duplicates += result.duplicates
    taken.repeated += result.repeated
    taken.rejected += len(refused)


def _place(content: Mapping[str, Any]) -> int:
    """Where a message's entries lie among the backfill's: the same message, sent again, lies in the same place."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    return (int.from_bytes(digest[:6], "big") << _INDEX_BITS) | (1 << 62)
