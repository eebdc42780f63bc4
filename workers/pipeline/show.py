"""The transcript of one recording from the ledger, at no API cost and whether or not the search index is there."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.errors import InputError
from workers.ledger import listing, recordings
from workers.ledger.listing import WITH_TRANSCRIPTS
from workers.model import Recording
from workers.pipeline.documents import transcript_of
from workers.pipeline.export import Exported
from workers.resources import Resources


@dataclass(frozen=True, slots=True)
class Shown:
    """The newest recording of those named that has a transcript, None when none has, and the others of its media id."""

    transcript: Exported | None
    others: Sequence[Recording]

    def as_json(self) -> dict[str, Any]:
        """The stable form of `retroscribe show --json`."""
        assert self.transcript is not None  # noqa: S101 there is no form of nothing
        others = [
            {"ref": one.ref, "state": str(one.state), "languages": list(one.request.languages)} for one in self.others
        ]
        return {**self.transcript.as_json(), "state": str(self.transcript.recording.state), "others": others}


def show(resources: Resources, media_id_or_ref: str) -> Shown:
    """What was said in a recording; raises InputError when there is no such recording."""
    with resources.ledger.read() as tx:
        named = recordings.find(tx, media_id_or_ref)
        if not named:
            raise InputError(
                f"There is no recording with the media id or ref '{media_id_or_ref}': `retroscribe status` shows what "
                f"this ledger has, `retroscribe run --media-id ID` asks for one."
            )
        same = recordings.find(tx, named[0].media_id)
        chosen = next((one for one in named if one.state in WITH_TRANSCRIPTS), None)
        if chosen is None:
            return Shown(None, [one for one in same if one.id not in {mine.id for mine in named}])
        packed = listing.packed_transcripts(tx, [chosen.id]).get(chosen.id)
        entry = listing.entry(tx, chosen.id)
    others = [one for one in same if one.id != chosen.id]
    return Shown(None if packed is None else Exported(entry, transcript_of(zlib.decompress(packed))), others)
