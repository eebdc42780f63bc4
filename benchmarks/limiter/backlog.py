"""Fills a ledger with validated recordings and the broker with their messages, which it then holds back.

python -m benchmarks.limiter.backlog FILE_OF_MEDIA_IDS, with the settings of the workers to come. Validated, because
submissions are measured and not look-ups of media; each then takes the real way, from its message to its last state.
"""

import logging
import sys
import time
from pathlib import Path
from typing import Final

from config import queues
from config.logging import configure_logging
from config.settings import load_settings
from workers import dispatch
from workers.ledger import backfills, recordings
from workers.ledger.migrate import migrate
from workers.ledger.tables import recordings as table
from workers.model import Lane, State, TranscriptionRequest
from workers.resources import Resources

#: Where the messages wait until all workers are ready; Redis renames a list at once.
HELD: Final = "benchmark.held"
TOGETHER: Final = 500
#: As in a real run, where 30 s of work are handed out and looked at after 60 s, no row in the queue comes due.
NOT_DUE_SECONDS: Final = 3600.0


def main(file_of_media_ids: str) -> None:
    configure_logging("console", level=logging.ERROR)
    resources = Resources(load_settings())
    migrate(resources.ledger)
    resources.tokens.get()
    media_ids = Path(file_of_media_ids).read_text(encoding="utf-8").split()
    for start in range(0, len(media_ids), TOGETHER):
        _take_in(resources, media_ids[start : start + TOGETHER])
    now = time.time()
    with resources.ledger.write() as tx:
        changes = {"queued_at": now, "validated_at": now, "due_at": now + NOT_DUE_SECONDS}
        tx.execute(table.update().values(state=State.VALIDATED, **changes))
    with resources.ledger.read() as tx:
        validated = recordings.in_state(tx, State.VALIDATED, after_id=0, most=len(media_ids))
    dispatch.send_steps(validated)
    resources.redis.rename(queues.SUBMIT, HELD)
    resources.close()


def _take_in(resources: Resources, media_ids: list[str]) -> None:
    asked = [backfills.Asked(n, TranscriptionRequest(media_id, ("en-US",))) for n, media_id in enumerate(media_ids)]
    with resources.ledger.write() as tx:
        backfills.add(tx, backfills.ensure(tx, "bench", {}), Lane.BACKFILL, asked, by="benchmark")


if __name__ == "__main__":
    main(sys.argv[1])
