"""The audit record of a recording that came to its end."""

from datetime import UTC, datetime

from config.logging import write_audit
from workers.model import Recording, State, Transcript


def audit(recording: Recording, transcript: Transcript | None = None) -> None:
    """Writes one JSON line on the logger `retroscribe.audit`: ids and figures, never text.

    To be called in the transaction that ends the recording: whoever is killed before it commits leaves a line too many,
    which comes again with the same `ref` from whoever ends the recording then. After it, the line would be missing.
    """
    write_audit(
        {
            "transcriptionId": transcript.transcription_id if transcript else recording.transcription_id,
            "mediaId": recording.media_id,
            "status": "completed" if recording.state == State.INDEXED else str(recording.state),
            "latencySeconds": transcript.latency_seconds if transcript else None,
            "averageConfidence": transcript.average_confidence if transcript else None,
            "processedAt": datetime.now(UTC).isoformat(),
            "redacted": transcript.redacted if transcript else None,
            "reason": recording.reason,
            "ref": recording.ref,
        }
    )
