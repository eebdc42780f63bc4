"""The webhook receiver in a process of its own, its ledger, and what a sender sees of it."""

import shutil
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from tests.conftest import free_port
from tests.support.command import running_command
from tests.support.desk import completed, request
from tests.support.eventually import eventually
from tests.support.sandbox import NO_TLS
from workers.ledger import backfills, recordings, submissions
from workers.ledger.engine import Ledger
from workers.ledger.tables import events
from workers.model import Lane, Recording, State
from workers.pipeline.callbacks import CALLBACK_PATH, mint

SECRETS = (b"the-new-secret-signs-now", b"the-old-secret-is-valid-still")
STRANGER = (b"nobody-but-a-forger-has-this",)
MOST_BYTES = 4096
NO_BROKER = "redis://127.0.0.1:1/0"
SPOKEN = "quicksilver-in-the-transcript"
ACCEPTED = (200, {"status": "accepted"})
UNAUTHORIZED = (401, {"status": "unauthorized", "detail": "The callback token is not valid for this event."})


@dataclass
class Receiver:
    """`sender` is a client that keeps its connections; `log` is what the process has logged so far."""

    process: "subprocess.Popen[bytes]"
    ledger: Ledger
    port: int
    log: Path
    metrics_port: int
    tls: ssl.SSLContext | None = None
    sender: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.sender = httpx.Client(timeout=30, trust_env=False, verify=self.tls or NO_TLS)

    @property
    def base_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def url(self, token: str) -> str:
        return f"{self.base_url}{CALLBACK_PATH}/{token}"

    def post(self, token: str, body: Any, **headers: str) -> tuple[int, Any]:
        """The answer to a delivery; `headers` have underscores in place of hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.sender.post(self.url(token), content=body, headers=named)
        return answer.status_code, answer.json()

    def get(self, path: str) -> httpx.Response:
        return self.sender.get(f"{self.base_url}{path}")

    def raw(self, sent: bytes, *, patience_seconds: float = 10.0) -> bytes:
        """What comes back on a connection of its own until it is closed, here if not there."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience_seconds) as connection:
            with suppress(OSError):  # it may be closed in the middle of what is sent
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
            return _all_of(connection)

    def metrics(self) -> dict[str, float]:
        """Every sample of the metrics page, by its name and labels as they stand there."""
        page = self.sender.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text
        samples = (line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def works(self) -> bool:
        """Whether a valid event is taken and kept, as ever."""
        recording, ref = self.submitted()
        taken = self.post(token(ref), completed(f"t-{recording.media_id}", SPOKEN)) == ACCEPTED
        return taken and [event["state"] for event in self.kept(ref)] == ["new"]

    def submitted(self, *, state: State = State.TRANSCRIBING) -> tuple[Recording, str]:
        """A recording that the API accepted, as the transcription `t-MEDIAID`, and its callback ref.

        Of one that is `submitting` the answer is still on its way.
        """
        media_id, ref, due = f"m-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex, time.time() + 3600
        with self.ledger.write() as tx:
            backfill = backfills.ensure(tx, media_id, {})
            backfills.add(tx, backfill, Lane.BACKFILL, [backfills.Asked(2, request(media_id))], by="a test")
            recording = recordings.by_fingerprint(tx, request(media_id).fingerprint())
            for to in (State.QUEUED, State.VALIDATED, State.SUBMITTING):
                recording = recordings.move(tx, recording, to, by="a test", due_at=due)
            submission = submissions.open_next(
                tx, recording.id, callback_ref=ref, epoch=recording.epoch, request_digest=bytes(32)
            )
            if state == State.SUBMITTING:
                return recording, ref
            submissions.settle(tx, submission, submissions.ACCEPTED, transcription_id=f"t-{media_id}")
            way = (State.TRANSCRIBING, State.COMPLETED, State.FORGOTTEN)
            for to in way[: way.index(state) + 1]:
                recording = recordings.move(tx, recording, to, by="a test", due_at=due)
        return recording, ref

    def kept(self, ref: str) -> list[dict[str, Any]]:
        """The inbox's rows of a callback ref."""
        with self.ledger.read() as tx:
            return [dict(row) for row in tx.execute(select(events).where(events.c.callback_ref == ref)).mappings()]

    def due_at(self, recording: Recording) -> float | None:
        with self.ledger.read() as tx:
            return recordings.get(tx, recording.id).due_at


@contextmanager
def started(
    folder: Path, empty_ledger: Path, redis_url: str, *, tls: ssl.SSLContext | None = None, **more: object
) -> Iterator[Receiver]:
    """A receiver while the block runs; `more` are settings, `tls` trusts its certificate."""
    port, metrics_port = free_port(), free_port()
    home = folder / "home"
    home.mkdir(parents=True)
    path = Path(shutil.copy(empty_ledger, home / "ledger.sqlite3"))
    settings = {
        "RETROSCRIBE_HOME": str(home),
        "RETROSCRIBE_REDIS_URL": redis_url,
        "RETROSCRIBE_RECEIVER_PORT": str(port),
        "RETROSCRIBE_METRICS_PORT": str(metrics_port),
        "RETROSCRIBE_RECEIVER_MAX_BYTES": str(MOST_BYTES),
        "RETROSCRIBE_WEBHOOK_SECRETS": ",".join(secret.decode() for secret in SECRETS),
        **{f"RETROSCRIBE_{name.upper()}": str(value) for name, value in more.items()},
    }
    log = folder / "receiver.log"
    ledger = Ledger(f"sqlite:///{path}")
    with running_command("receiver", folder=folder, log=log, **settings) as process:
        receiver = Receiver(process, ledger, port, log, metrics_port, tls)

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return receiver.get("/healthz").is_success
            except httpx.HTTPError:
                return False

        eventually(listens, 30, what="the receiver")
        yield receiver
        receiver.sender.close()
    ledger.close()


def _all_of(connection: socket.socket) -> bytes:
    parts = []
    with suppress(OSError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def token(ref: str) -> str:
    """A valid token for a callback ref."""
    return mint(ref, SECRETS)
