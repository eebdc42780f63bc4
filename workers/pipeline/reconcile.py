"""Compares the search index with the ledger, and has it say the same."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from workers.ledger import comparing, transcripts
from workers.ledger.listing import WITH_TRANSCRIPTS
from workers.model import Recording, State
from workers.pipeline.documents import document_of, transcript_of
from workers.pipeline.taking_back import take_back_forgotten, version_in
from workers.resources import Resources

#: Recordings and documents compared together.
PAGE: Final = 500
#: Documents written together: their transcripts may have megabytes.
TOGETHER: Final = 20
EXAMPLES: Final = 3


@dataclass(slots=True)
class Difference:
    """How many are different in one way, the refs of some of them, and how many of all were repaired."""

    number: int = 0
    examples: list[str] = field(default_factory=list)
    repaired: int = 0

    def add(self, refs: Sequence[str]) -> None:
        self.number += len(refs)
        self.examples += refs[: EXAMPLES - len(self.examples)]


@dataclass(slots=True)
class Comparison:
    """How far it is: indexed recordings and documents that were compared, and in what they differ.

    `missing`: a recording that is indexed has no document. `stale`: its document is of another version. `extra`: a
    document of no recording, or of one that is not transcribed, or of a forgotten one.
    """

    recordings: int = 0
    documents: int = 0
    missing: Difference = field(default_factory=Difference)
    stale: Difference = field(default_factory=Difference)
    extra: Difference = field(default_factory=Difference)

    @property
    def differences(self) -> tuple[Difference, ...]:
        return self.missing, self.stale, self.extra

    @property
    def found(self) -> int:
        return sum(one.number for one in self.differences)

    @property
    def left(self) -> int:
        """How many are different still."""
        return self.found - sum(one.repaired for one in self.differences)


def reconcile(resources: Resources, *, fix: bool) -> Iterator[Comparison]:
    """Goes through both in the order of their refs, telling after each page how far it is; with `fix` it repairs.

    Takes as much memory for millions as for ten, and no call to the API. Workers go on meanwhile: what seems to be
    different is looked at once more before it is counted or repaired. Safe to repeat and to interrupt.
    """
    so_far = Comparison()
    after: str | None = None
    while True:
        # The ledger first: what it calls indexed by then has been written to the index before.
        with resources.ledger.read() as tx:
            page = comparing.indexed(tx, after_ref=after, most=PAGE)
        last = next(reversed(page)) if len(page) == PAGE else None
        for documents in _documents(resources, after, last):
            _compare(resources, so_far, page, documents, fix=fix)
            yield so_far
        _count_missing(resources, so_far, page, fix=fix)
        yield so_far
        if last is None:
            break
        after = last
    if fix and so_far.extra.number:
        resources.index.purge()  # once, in the end: of what was forgotten nothing may stay


def _documents(resources: Resources, after: str | None, last: str | None) -> Iterator[Sequence[tuple[str, int]]]:
    """Ref and version of the documents behind `after` up to `last`, or to the end, in pages."""
    while True:
        page = resources.index.versions(after, PAGE)
        within = [(ref, version) for ref, version in page if last is None or ref <= last]
        yield within
        if len(page) < PAGE or len(within) < len(page):
            return
        after = page[-1][0]


def _compare(
    resources: Resources,
    so_far: Comparison,
    page: dict[str, int],
    documents: Sequence[tuple[str, int]],
    *,
    fix: bool,
) -> None:
    """Takes the recordings out of the page that have a document; what is left in it in the end is missing."""
    so_far.documents += len(documents)
    so_far.recordings += sum(ref in page for ref, _ in documents)
    stale = [ref for ref, version in documents if page.get(ref, version) != version]
    strangers = [ref for ref, _ in documents if page.pop(ref, None) is None]
    _count_stale(resources, so_far.stale, stale, fix=fix)
    _count_extra(resources, so_far.extra, strangers, fix=fix)


def _count_missing(resources: Resources, so_far: Comparison, page: Mapping[str, int], *, fix: bool) -> None:
    so_far.recordings += len(page)
    if page:
        resources.index.versions(None, 1)  # whoever begins at the first one sees what was written just now
    found = [
        one
        for one in _now(resources, list(page)).values()
        if one.state == State.INDEXED and version_in(resources.index, one.ref) is None
    ]
    so_far.missing.add([one.ref for one in found])
    if fix:
        so_far.missing.repaired += _write(resources, found)


def _count_stale(resources: Resources, stale: Difference, refs: Sequence[str], *, fix: bool) -> None:
    found = [
        one
        for one in _now(resources, refs).values()
        if one.state == State.INDEXED and version_in(resources.index, one.ref) not in (None, one.epoch)
    ]
    stale.add([one.ref for one in found])
    if fix:
        for one in found:
            resources.index.delete(one.ref)  # a newer version, as after a restored ledger, would not give way
        stale.repaired += _write(resources, found)


def _count_extra(resources: Resources, extra: Difference, refs: Sequence[str], *, fix: bool) -> None:
    now = _now(resources, refs)
    found = [
        ref
        for ref in refs
        if (ref not in now or now[ref].state not in WITH_TRANSCRIPTS) and version_in(resources.index, ref) is not None
    ]
    extra.add(found)
    if not fix or not found:
        return
    for ref in found:
        resources.index.delete(ref)
    # One that a worker has completed at this moment may have lost the document that it had just been given.
    _write(resources, [one for one in _now(resources, found).values() if one.state in WITH_TRANSCRIPTS])
    extra.repaired += len(found)


def _now(resources: Resources, refs: Sequence[str]) -> dict[str, Recording]:
    """The recordings of these refs as they are now, by ref."""
    if not refs:
        return {}
    with resources.ledger.read() as tx:
        return {one.ref: one for one in comparing.by_refs(tx, refs)}


def _write(resources: Resources, found: Sequence[Recording]) -> int:
    """Writes documents from the ledger, and takes back what is forgotten meanwhile; gives how many it had."""
    written = 0
    for start in range(0, len(found), TOGETHER):
        some = found[start : start + TOGETHER]
        with resources.ledger.read() as tx:
            payloads = transcripts.payloads(tx, [one.id for one in some])
        documents = [
            document_of(one, transcript_of(payloads[one.id]), indexed_at=one.indexed_at or one.created_at)
            for one in some
            if one.id in payloads
        ]
        resources.index.upsert(documents)
        take_back_forgotten(resources, [one.id for one in some])
        written += len(documents)
    return written
