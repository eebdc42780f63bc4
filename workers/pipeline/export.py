"""The transcripts of a backfill from the ledger, one after the other, in constant memory and at no API cost."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from workers.genesys.events import parse_event
from workers.ledger import listing
from workers.ledger.listing import WITH_TRANSCRIPTS, Entry
from workers.model import Segment, Transcript
from workers.pipeline.explain import utc
from workers.pipeline.listing import pages
from workers.pipeline.status import named
from workers.resources import Resources

#: Transcripts that are read together: one may have megabytes.
TOGETHER: Final = 20


@dataclass(frozen=True, slots=True)
class Exported:
    """A recording and what was said in it."""

    recording: Entry
    transcript: Transcript

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that its segments name, else those that were asked for."""
        spoken = dict.fromkeys(segment.language for segment in self.transcript.segments if segment.language)
        return tuple(spoken) or self.recording.languages

    def as_json(self) -> dict[str, Any]:
        """The stable form of a line of `retroscribe export`; what nobody knows is null."""
        recording, transcript = self.recording, self.transcript
        return {
            "media_id": recording.media_id,
            "ref": recording.ref,
            "transcription_id": transcript.transcription_id,
            "backfill": recording.backfill,
            "languages": list(self.languages),
            "duration_seconds": recording.duration_seconds,
            "confidence": transcript.average_confidence,
            "redacted": transcript.redacted,
            "started_at": utc(transcript.started_at),
            "completed_at": utc(transcript.completed_at),
            "segments": [_segment_json(segment) for segment in transcript.segments],
        }


def export(resources: Resources, name: str) -> Iterator[Exported]:
    """Every recording with a transcript that the backfill asked for, once each, those of other backfills last.

    A recording that is forgotten before its turn is left out. Raises InputError, before the first one, when there is
    no backfill of that name.
    """
    with resources.ledger.read() as tx:
        backfill_id = named(tx, name).id
    states = WITH_TRANSCRIPTS
    mine = pages(resources, lambda tx, after: listing.own(tx, backfill_id, states, None, after=after))
    others = pages(resources, lambda tx, after: listing.shared(tx, backfill_id, states, None, after=after, once=True))
    return _with_transcripts(resources, chain(mine, others))


def _with_transcripts(resources: Resources, entries: Iterator[Entry]) -> Iterator[Exported]:
    while some := list(islice(entries, TOGETHER)):
        with resources.ledger.read() as tx:
            packed = listing.packed_transcripts(tx, [one.id for one in some])
        for one in some:
            # Each is let go before the next is unpacked.
            transcript = parse_event(zlib.decompress(packed.pop(one.id))).transcript if one.id in packed else None
            if transcript is not None:
                yield Exported(one, transcript)


def _segment_json(segment: Segment) -> dict[str, Any]:
    return {
        "text": segment.text,
        "confidence": segment.confidence,
        "speaker": segment.speaker,
        "start": segment.start_seconds,
        "end": segment.end_seconds,
        "language": segment.language,
    }
