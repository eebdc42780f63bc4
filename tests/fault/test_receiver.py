"""A storm of events, good and bad, on a receiver that is killed while the broker is away: what it took, it kept."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from benchmarks.receiver.accepted import Waiting, body, fill
from tests.support.eventually import eventually
from tests.support.fleet import RATE, Broker, Fleet
from tests.support.sandbox import NO_TLS, Sandbox
from workers.ledger.tables import events, recordings
from workers.model import State
from workers.pipeline.callbacks import CALLBACK_PATH, mint
from workers.search.query import parse

SEED = 20261126
EVENTS = 10_000
#: Shares of all that is sent.
DUPLICATES, FORGED, MALFORMED, EARLY = 0.10, 0.05, 0.05, 0.02
SENDERS = 12
#: How often and how soon after another an event is sent until it is answered for good.
TRIES, PAUSE_SECONDS = 40, 0.5
BROKER_AWAY_SECONDS = 10
BACKFILL = "storm"
FORGED_WORDS = "counterfeit speech"


@dataclass(frozen=True)
class Sent:
    """One delivery; `number` is which recording's, -1 when it is not to be taken."""

    kind: str
    number: int
    token: str
    body: bytes


class Senders:
    """Sends everything, each until it has an answer that is final; counts the answers as it goes."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}{CALLBACK_PATH}/"
        self._local = threading.local()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.acknowledged: set[int] = set()
        self.done = 0
        self._lock = threading.Lock()

    def send(self, one: Sent) -> None:
        if not hasattr(self._local, "client"):
            self._local.client = httpx.Client(timeout=15, trust_env=False, verify=NO_TLS)
        status = 0
        for _ in range(TRIES):
            try:
                status = self._local.client.post(self._url + one.token, content=one.body).status_code
            except httpx.HTTPError:
                status = 0
            if status not in (0, 503):
                break
            time.sleep(PAUSE_SECONDS)
        with self._lock:
            self.done += 1
            self.answers[one.kind, status] += 1
            if status == 200:
                self.acknowledged.add(one.number)


def storm(waiting: list[Waiting], chance: random.Random) -> list[Sent]:
    """An event for each recording, and between them the other ones, all in one order that chance chose."""
    good = [Sent("valid", n, one.token, body(one, [{"text": f"word{n} was said"}])) for n, one in enumerate(waiting)]
    again = [
        Sent("duplicate", one.number, one.token, one.body) for one in chance.sample(good, int(EVENTS * DUPLICATES))
    ]
    forged = [
        Sent(
            "forged",
            -1,
            mint(waiting[number].token.partition(".")[0], [b"a secret of somebody else"]),
            body(waiting[number], [{"text": FORGED_WORDS}]),
        )
        for number in chance.sample(range(len(waiting)), int(EVENTS * FORGED))
    ]
    malformed = [
        Sent("malformed", -1, one.token, one.body[: chance.randrange(len(one.body) - 1)])
        for one in chance.sample(good, int(EVENTS * MALFORMED))
    ]
    everything = [*good, *again, *forged, *malformed]
    chance.shuffle(everything)
    return everything


@pytest.fixture
def receiving(tmp_path: Path) -> Iterator[Fleet]:
    """All that a stored event needs to become a document."""
    broker = Broker(tmp_path).start()
    parts = ("index", "index.2", "control", "beat", "receiver")
    with Sandbox(rate=RATE, count=10) as sandbox:
        fleet = Fleet(tmp_path, sandbox, broker, parts=parts)
        yield fleet
        fleet.close()
    broker.close()


def indexed(fleet: Fleet) -> set[str]:
    """The media ids of the recordings that are."""
    with fleet.resources.ledger.read() as tx:
        return set(tx.execute(select(recordings.c.media_id).where(recordings.c.state == State.INDEXED)).scalars())


@pytest.mark.slow
def test_every_acknowledged_event_becomes_one_document_and_no_forged_one_leaves_a_trace(receiving: Fleet) -> None:
    chance = random.Random(SEED)
    settings, ledger = receiving.resources.settings, receiving.resources.ledger
    number = int(EVENTS * (1 - DUPLICATES - FORGED - MALFORMED))
    early = int(EVENTS * EARLY)
    waiting = fill(ledger, number, settings.signing_secrets, early=early, backfill=BACKFILL)
    senders = Senders(settings.receiver_port)

    with ThreadPoolExecutor(SENDERS) as pool:
        sending = [pool.submit(senders.send, one) for one in storm(waiting, chance)]
        for reached in (0.2, 0.4):
            eventually(lambda reached=reached: senders.done >= EVENTS * reached, 300, f"{reached:.0%} of the events")
            receiving.kill("receiver")
            receiving.start("receiver")
        eventually(lambda: senders.done >= EVENTS * 0.6, 300, "60% of the events")
        receiving.kill("valkey")
        time.sleep(BROKER_AWAY_SECONDS)
        receiving.start("valkey")
        for one in sending:
            one.result()

    answered = {answer for answer in senders.answers if answer[1]}
    assert answered == {("valid", 200), ("duplicate", 200), ("forged", 401), ("malformed", 400)}, senders.answers
    assert len(senders.acknowledged) > number * 0.99

    eventually(lambda: receiving.states(BACKFILL)[State.INDEXED] >= len(senders.acknowledged), 900, "the documents")
    index = receiving.resources.index
    assert index.count() == receiving.states(BACKFILL)[State.INDEXED] == len(indexed(receiving))
    assert {waiting[one].media_id for one in senders.acknowledged} <= indexed(receiving)
    for one in chance.sample(sorted(senders.acknowledged), 100):
        (hit,) = index.search(parse(f"word{one}")).hits
        assert hit.media_id == waiting[one].media_id
    assert index.search(parse(f'"{FORGED_WORDS}"')).total == 0
    with ledger.read() as tx:
        counted = tx.execute(select(events.c.state, func.count().label("number")).group_by(events.c.state))
        kept = {row.state: row.number for row in counted}
    assert kept == {"applied": index.count()}
    log = (receiving.folder / "receiver.log").read_text()
    assert log.count("verdict=forged") >= senders.answers["forged", 401]
    assert FORGED_WORDS not in log
    assert "Traceback" not in log
