"""What of the ledger goes into the search index."""

from workers.genesys.events import parse_event
from workers.model import Recording, Transcript
from workers.search.documents import Document, document_from


def document_of(recording: Recording, transcript: Transcript, *, indexed_at: float) -> Document:
    """The document of a recording as the ledger has it.

    Its version is the recording's epoch. Nothing raises that once a transcript is stored, so the same transcript makes
    the same document whenever it is indexed; and whatever leads to another transcript goes through a new submission or
    a new epoch, so that who still has the old one in hand comes too late.
    """
    return document_from(recording, transcript, indexed_at=indexed_at, version=recording.epoch)


def transcript_of(payload: bytes) -> Transcript:
    """The transcript in an event that was stored because it has one."""
    transcript = parse_event(payload).transcript
    assert transcript is not None  # noqa: S101 such an event is stored only with a transcript
    return transcript
