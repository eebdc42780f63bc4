"""Takes documents out of the search index again, and finds the one that a recording has there."""

from collections.abc import Collection, Sequence

from workers.ledger import recordings
from workers.model import State
from workers.resources import Resources
from workers.search.index import SearchIndex


def take_back_forgotten(resources: Resources, recording_ids: Collection[int]) -> None:
    """Removes the documents of those that were forgotten while they were written: to be called after that."""
    with resources.ledger.read() as tx:
        found = recordings.those_in(tx, recording_ids, State.FORGOTTEN)
    take_back(resources, [one.ref for one in found])


def take_back(resources: Resources, refs: Sequence[str]) -> None:
    """Removes documents that should not be there, also what deleting leaves of them in the index's files."""
    there = any(version_in(resources.index, ref) is not None for ref in refs)
    for ref in refs:  # all: a search engine shows what was written just now a little later
        resources.index.delete(ref)
    if there:
        resources.index.purge()


def version_in(index: SearchIndex, ref: str) -> int | None:
    """The version of the document of that ref, None when there is none."""
    just_before = f"{ref[:-1]}{chr(ord(ref[-1]) - 1)}\U0010ffff"
    found = index.versions(just_before, 1)
    return found[0][1] if found and found[0][0] == ref else None
