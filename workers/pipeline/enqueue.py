"""Takes recordings into the ledger, from a manifest or from a message."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import structlog

from workers import dispatch
from workers.errors import InputError, PartUnreachable
from workers.intake.entries import Defaults, Refused, read_entries, read_entry, read_message, resolve
from workers.intake.manifest import Row
from workers.ledger import backfills, recordings
from workers.ledger.backfills import UNBOUNDED, Asked
from workers.model import Bounds, Lane, Recording
from workers.pipeline.batches import Batches, Taken
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: A message's entries lie side by side: 14 bits hold the 10,000 of one message, the rest is the message's digest.
_INDEX_BITS: Final = 14


def take_rows(
    resources: Resources,
    backfill: str,
    rows: Iterable[Row],
    *,
    defaults: Defaults,
    lane: Lane,
    bounds: Bounds = UNBOUNDED,
    by: str,
) -> Iterator[Taken]:
    """Takes a manifest in, in short transactions, telling after each how far it is.

    Raises InputError when the backfill exists with other options or bounds. Safe to repeat: the same list adds nothing.
    """
    with resources.ledger.write() as tx:
        target = backfills.ensure(tx, backfill, defaults.as_options(), bounds)
    yield from Batches(resources.ledger, target, lane, by=by).take(map(_entry, rows))
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
    rejected: list[dict[str, Any]] = []

    def entries() -> Iterator[Asked | backfills.Refused]:
        for one in read_entries(content):
            if isinstance(one, Refused):
                rejected.append({"index": one.index, "media_id": one.media_id, "reason": one.reason})
                yield backfills.Refused(place + one.index, one.raw, one.reason)
            else:
                yield Asked(place + one.index, resolve(one.entry, defaults))

    batches = Batches(resources.ledger, target, content.lane, by=by)
    for _ in batches.take(entries()):
        pass
    announce()
    return {
        "backfill": content.backfill,
        "accepted": batches.taken.accepted + batches.taken.repeated,
        "duplicates": batches.taken.duplicates,
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
        backfills.add(tx, target, lane, [Asked(place, request)], by=by)
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


def _entry(row: Row) -> Asked | backfills.Refused:
    if row.request is None:
        return backfills.Refused(row.line, row.raw, row.reason or "")
    return Asked(row.line, row.request)


def _place(content: Mapping[str, Any]) -> int:
    """Where a message's entries lie among the backfill's: the same message, sent again, lies in the same place."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    return (int.from_bytes(digest[:6], "big") << _INDEX_BITS) | (1 << 62)
