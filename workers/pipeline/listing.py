"""What became of every entry of a backfill, one after the other, in constant memory and without a long transaction."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from sqlalchemy import Connection

from workers.ledger import listing
from workers.ledger.listing import Entry, Unusable
from workers.model import State
from workers.pipeline.explain import utc
from workers.pipeline.status import named
from workers.resources import Resources

T = TypeVar("T")


def entries(
    resources: Resources,
    name: str,
    *,
    states: Collection[State] = (),
    reason: str | None = None,
    own: bool = False,
) -> Iterator[Entry]:
    """The backfill's usable entries in these states, all of them when none is named, and with that reason.

    Its own recordings come first, in the order in which they were taken in, then, unless only its `own` are wanted, the
    entries that share a recording that was asked for before. Each is as it was when its page was read. Raises
    InputError, before the first one, when there is no backfill of that name.
    """
    backfill_id = _backfill_id(resources, name)
    wanted = tuple(states) or tuple(State)

    def stream() -> Iterator[Entry]:
        yield from pages(resources, lambda tx, after: listing.own(tx, backfill_id, wanted, reason, after=after))
        if not own:
            yield from pages(resources, lambda tx, after: listing.shared(tx, backfill_id, wanted, reason, after=after))

    return stream()


def unusable(resources: Resources, name: str) -> Iterator[Unusable]:
    """The backfill's entries that could not be used, in their order; raises InputError as `entries` does."""
    backfill_id = _backfill_id(resources, name)
    return pages(resources, lambda tx, after: listing.unusable(tx, backfill_id, after=after))


def pages(resources: Resources, page: Callable[[Connection, int], tuple[list[T], int | None]]) -> Iterator[T]:
    """What `page` gives in one look at the ledger each, from its beginning to its end."""
    after: int | None = -1
    while after is not None:
        with resources.ledger.read() as tx:
            found, after = page(tx, after)
        yield from found


def entry_json(one: Entry) -> dict[str, Any]:
    """The stable form of a line of `retroscribe list --json`."""
    return {
        "media_id": one.media_id,
        "ref": one.ref,
        "entry": one.entry,
        "duplicate": one.duplicate,
        "backfill": one.backfill,
        "lane": one.lane,
        "languages": list(one.languages),
        "state": str(one.state),
        "reason": one.reason,
        "detail": one.detail,
        "transcription_id": one.transcription_id,
        "duration_seconds": one.duration_seconds,
        "created_at": utc(one.created_at),
        "changed_at": utc(one.changed_at),
    }


def unusable_json(one: Unusable) -> dict[str, Any]:
    """The stable form of a line of `retroscribe list --unusable --json`."""
    return {"entry": one.entry, "raw": one.raw, "reason": one.reason, "at": utc(one.at)}


def _backfill_id(resources: Resources, name: str) -> int:
    with resources.ledger.read() as tx:
        return named(tx, name).id
