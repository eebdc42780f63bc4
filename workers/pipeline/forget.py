"""Forgets recordings on request: what was said in them goes from the ledger and from the search index, for good."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from workers.errors import LedgerUnavailable, SearchUnavailable
from workers.ledger import erasure, recordings
from workers.ledger.states import FORGETTABLE
from workers.model import Recording, State
from workers.pipeline.applying import apply_waiting
from workers.resources import Resources


class Outcome(StrEnum):
    """What became of a request to forget a recording."""

    FORGOTTEN = "forgotten"
    ALREADY = "already_forgotten"
    UNDER_WAY = "under_way"


@dataclass(frozen=True, slots=True)
class Found:
    """What a media id or ref names; `others` are recordings of the same media id that a ref leaves out."""

    target: str
    recordings: Sequence[Recording]
    others: Sequence[Recording]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done about a recording that was in the state `before`.

    `at` (Unix seconds) and `by` are those of the receipt, None when it was not forgotten. `problem` says why its
    document could not be removed from the search index.
    """

    recording: Recording
    before: State
    outcome: Outcome
    at: float | None = None
    by: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """Sentences about what remains in a server's files, and about files that could not be cleaned."""

    remains: Sequence[str] = ()
    problems: Sequence[str] = ()


def look(resources: Resources, targets: Sequence[str]) -> list[Found]:
    """What each media id or ref names, in their order and each recording once; changes nothing."""
    found, seen = [], set[int]()
    for target in dict.fromkeys(targets):
        with resources.ledger.read() as tx:
            mine = recordings.find(tx, target)
            same = recordings.find(tx, mine[0].media_id) if mine else []
        named = {one.id for one in mine}
        others = [one for one in same if one.id not in named]
        found.append(Found(target, [one for one in mine if one.id not in seen], others))
        seen |= named
    return found


def forget(resources: Resources, recording: Recording, *, by: str) -> Forgotten:
    """Removes what was said in a recording from ledger and index, and leaves the receipt.

    What waits in the inbox is applied first, so that what was paid for is on record. A POST that may be on its way
    has to be answered first: nothing is done then. Safe to repeat, which also finishes what was interrupted.
    """
    apply_waiting(resources, recording.id, by=by)
    with resources.ledger.write() as tx:
        present = recordings.lock(tx, recording.id)
        assert present is not None  # noqa: S101 rows are never deleted
        before = present.state
        if before in FORGETTABLE:
            erasure.forget(tx, present, by=by)
        elif before != State.FORGOTTEN:
            return Forgotten(present, before, Outcome.UNDER_WAY)
        at, who = erasure.receipt(tx, recording.id)
    outcome = Outcome.ALREADY if before == State.FORGOTTEN else Outcome.FORGOTTEN
    try:
        resources.index.delete(recording.ref)
    except SearchUnavailable as error:
        return Forgotten(recording, before, outcome, at, who, str(error))
    return Forgotten(recording, before, outcome, at, who)


def scrub(resources: Resources) -> Scrubbed:
    """Has the databases' files hold nothing of what was removed; a server's are its operator's to clean.

    Embedded files are written anew, which takes as long as copying them: others wait with what they want to write.
    """
    remains: list[str] = []
    problems: list[str] = []
    for part, clean in (("ledger", _rewrite_ledger), ("search index", _purge_index)):
        try:
            remains += filter(None, [clean(resources)])
        except (LedgerUnavailable, SearchUnavailable) as error:
            problems.append(f"{error} Unused parts of the {part} may still hold what was removed.")
    return Scrubbed(remains, problems)


def _rewrite_ledger(resources: Resources) -> str | None:
    return resources.ledger.rewrite()


def _purge_index(resources: Resources) -> str | None:
    return resources.index.purge()
