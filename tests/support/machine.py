"""A world whose workers take turns: the real pipeline over a real ledger, with everything else pretended."""

import json
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from unittest import mock

import structlog
from sqlalchemy import Connection, event

from config import queues, task_names
from config.genesys import GenesysSettings
from config.settings import Settings
from tests.support.desk import completed, failed
from workers.errors import (
    ApiRateLimited,
    ApiUnavailable,
    ApiUnreachable,
    CredentialsRejected,
    LedgerUnavailable,
    LimiterUnavailable,
    MediaNotFound,
    OutcomeUnknown,
    PartUnreachable,
    RateLimited,
    RequestRefused,
    Retryable,
    ScopeMissing,
    SearchUnavailable,
    StatusUnavailable,
    TokenRejected,
)
from workers.genesys.client import Accepted
from workers.genesys.schemas import read_status, submit_payload
from workers.genesys.tokens import AccessToken
from workers.ledger.engine import Ledger
from workers.ledger.tables import metadata
from workers.limits.limiter import LimiterState, Permit
from workers.model import CallClass, Lane, Media, Reason, Recording, State, TranscriptionRequest, TranscriptionStatus
from workers.pipeline.index import index
from workers.pipeline.poll import poll
from workers.pipeline.pump import pump
from workers.pipeline.submit import submit
from workers.pipeline.sweep import sweep
from workers.pipeline.track import track
from workers.pipeline.validate import validate
from workers.resources import Resources
from workers.search.documents import Document

PROCESSING_SECONDS: Final = 120.0
STUCK_SECONDS: Final = 60.0


class Point(StrEnum):
    """Where a worker may stand still, or die, between two things that others can see."""

    READ = "before it reads the ledger"
    WRITE = "before it writes to the ledger"
    COMMIT = "dead before its commit"
    UNHEARD = "its commit unheard of"
    COMMITTED = "after its commit"
    PERMIT = "before its permit"
    SEND = "before its request leaves"
    ANSWER = "before it hears the answer"
    PUBLISH = "before it sends a message"
    DOCUMENT = "before it writes the document"
    WAIT = "waiting for the ledger"
    ACK = "before it acknowledges its message"


class Part(StrEnum):
    """What may be down; STOPPING asks the processes to stop."""

    LEDGER = "ledger"
    BROKER = "broker"
    REDIS = "redis"
    SEARCH = "search"
    CREDENTIALS = "credentials"
    STOPPING = "stopping"


class Answer(StrEnum):
    """What the API does with a call; LOST and LATE are accepted, now or at another time, and nobody hears of it."""

    GOOD = "good"
    LOST = "lost"
    LATE = "late"
    ERROR = "500"
    LIMITED = "429"
    REFUSED = "400"
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    UNREACHABLE = "unreachable"


class Ends(StrEnum):
    """How a transcription ends; MENDED says failed first and completed afterwards."""

    COMPLETED = "completed"
    FAILED = "failed"
    MENDED = "mended"
    NEVER = "never"


class Died(BaseException):
    """The process was killed: nothing of it happens any more."""


class Clock:
    """Stands in for the module `time` wherever the product looks at the clock; moves only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True, slots=True)
class Message:
    """A message in the broker, with the steps that follow in its chain."""

    task: str
    queue: str
    recording_id: int = 0
    epoch: int = 0
    rest: tuple[tuple[str, str], ...] = ()


class Worker:
    """Work in a thread of its own, which runs only while the test waits for it."""

    def __init__(self, name: str, work: Callable[[], None], answers: Iterable[Answer], ends: Ends) -> None:
        self.name, self.answers, self.ends = name, list(answers), ends
        self.until: Point | None = None
        self.at: Point | None = None
        #: Whether backfills ran and halts stood at its last commit.
        self.seen: tuple[dict[int, str], dict[str, Any] | None] = ({}, None)
        #: Transcription ids that the API answered it with.
        self.heard: list[str] = []
        self.over = self.dying = False
        self._error: BaseException | None = None
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def go(self, until: Point | None) -> None:
        """Lets it work until it comes to the point, or ends; raises what it did not expect."""
        self.until, self.at = until, None
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._turn.release()
        assert self._back.acquire(timeout=STUCK_SECONDS), f"{self.name} is stuck"
        if self.over:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def die(self) -> None:
        self.dying = True
        self.go(None)

    def reach(self, point: Point, *, always: bool = False) -> None:
        if not self.dying and (always or self.until == point):
            self.at = point
            self._back.release()
            self._turn.acquire()
        if self.dying:
            raise Died

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Died:
            self.dying = True
        except BaseException as error:  # noqa: BLE001 the test's own thread raises it
            self._error = error
        self.over = True
        self._back.release()


@dataclass(slots=True)
class Transcription:
    """What the API accepted, and so charged for."""

    id: str
    request: TranscriptionRequest
    key: str
    calls_back: bool
    ends: Ends
    accepted_at: float
    #: Whose recording it was when its request left.
    backfill_id: int
    #: Whether it ended before its time, as an early event shows.
    over: bool = False
    #: Events that were delivered with all they have to say.
    told: set[str] = field(default_factory=set)

    def status(self, now: float) -> str:
        if self.ends == Ends.NEVER or (not self.over and now < self.accepted_at + PROCESSING_SECONDS):
            return "processing"
        return "failed" if self.ends == Ends.FAILED else "completed"

    def events(self) -> list[str]:
        """The types of its events, in the order in which they come about."""
        both = [Ends.FAILED, Ends.COMPLETED] if self.ends == Ends.MENDED else [self.ends]
        return [str(one) for one in both if one != Ends.NEVER]

    def body(self, status: str, *, result: bool = True) -> bytes:
        if status == "failed":
            return failed(self.id, "no speech")
        media_id = self.request.media_id
        return completed(self.id, "hello", media_id=media_id) if result else completed(self.id, result=None)


class Api:
    """The API with an account of what it accepted; does with each call what the worker's next answer says."""

    def __init__(self, world: "World", *, status_route: bool, minds_keys: bool) -> None:
        self._world, self._status_route, self._minds_keys = world, status_route, minds_keys
        self.accepted: list[Transcription] = []
        #: Orders that the API will accept after all.
        self.late: list[Callable[[], Transcription]] = []
        self._payloads: dict[str, bytes] = {}

    def get_media(self, _token: AccessToken, media_id: str) -> Media:
        answer = self._next(Point.SEND)
        if answer == Answer.REFUSED:
            raise MediaNotFound("There is no such media.", 404)
        self._safe(answer)
        self._world.reach(Point.ANSWER)
        return Media(media_id, "ogg", "opus", 60)

    def get_transcription(self, _token: AccessToken, transcription_id: str) -> TranscriptionStatus:
        answer = self._next(Point.SEND)
        self._safe(Answer.ERROR if answer == Answer.REFUSED else answer)
        if not self._status_route:
            raise StatusUnavailable("There is no such route.", 405)
        one = next(one for one in self.accepted if one.id == transcription_id)
        status = one.status(self._world.clock.now)
        data = json.loads(one.body(status))["data"] if status != "processing" else {"status": status}
        self._world.reach(Point.ANSWER)
        return read_status(json.dumps(data).encode(), transcription_id)

    def submit(
        self,
        _token: AccessToken,
        request: TranscriptionRequest,
        *,
        callback_uri: str | None,
        idempotency_key: str,
        send_before: float,
        not_before: float,
    ) -> Accepted:
        world = self._world
        answer = self._next(Point.SEND)
        if world.clock.monotonic() >= send_before or answer == Answer.UNREACHABLE:
            raise ApiUnreachable("Nothing was sent.")
        backfill_id = world.check_intent(idempotency_key)
        payload = submit_payload(request, callback_uri)
        assert self._payloads.setdefault(idempotency_key, payload) == payload, "the same key with another body"

        def accept() -> Transcription:
            return self._accept(request, idempotency_key, callback_uri is not None, ends, backfill_id)

        ends = world.running.ends if world.running else Ends.COMPLETED
        if answer == Answer.LATE:
            self.late.append(accept)
        accepted = accept() if answer in (Answer.GOOD, Answer.LOST) else None
        world.reach(Point.ANSWER)
        if answer in (Answer.LOST, Answer.LATE, Answer.ERROR):
            raise OutcomeUnknown("Nobody knows.", 500)
        if answer == Answer.REFUSED:
            raise RequestRefused("No.", 400)
        self._safe(answer)
        assert accepted is not None
        if world.running:
            world.running.heard.append(accepted.id)
        return Accepted(accepted.id, 202, "c-1")

    def _accept(
        self, request: TranscriptionRequest, key: str, calls_back: bool, ends: Ends, backfill_id: int
    ) -> Transcription:
        same = [one for one in self.accepted if one.key == key]
        if same and self._minds_keys:
            return same[0]
        name = f"t-{len(self.accepted) + 1}"
        one = Transcription(name, request, key, calls_back, ends, self._world.clock.now, backfill_id)
        self.accepted.append(one)
        return self.accepted[-1]

    def _next(self, point: Point) -> Answer:
        self._world.reach(point)
        answers = self._world.running.answers if self._world.running else []
        return answers.pop(0) if answers else Answer.GOOD

    def _safe(self, answer: Answer) -> None:
        """Raises what the answer means to a call that is safe to repeat."""
        if answer in (Answer.LOST, Answer.LATE, Answer.ERROR):
            raise ApiUnavailable("It fails.", 500)
        if answer == Answer.LIMITED:
            raise ApiRateLimited("Too many.", 429, None, None, 7.0)
        if answer == Answer.UNAUTHORIZED:
            raise TokenRejected("Not this token.", 401)
        if answer == Answer.FORBIDDEN:
            raise ScopeMissing("A scope is missing.", 403)
        if answer == Answer.UNREACHABLE:
            raise ApiUnreachable("Nothing was sent.")


class Limiter:
    """Gives leave unless a gate is closed; after calls that failed the first one is a canary."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._gates: dict[CallClass, float] = {}
        self._outage: set[CallClass] = set()

    def acquire(self, call_class: CallClass, *, lane: Lane = Lane.BACKFILL, max_wait_seconds: float = 60.0) -> Permit:
        self._world.reach(Point.PERMIT)
        gate = self.snapshot(call_class).gate_seconds
        if gate:
            raise RateLimited("The gate is closed.", gate)
        outage = call_class in self._outage
        return Permit(call_class, self._world.clock.now, 0, outage, outage, 0.0)

    def settle(self, permit: Permit, ok: bool, *, immediately: bool = False, reason: str | None = None) -> None:
        if ok:
            self._outage.discard(permit.call_class)
        elif immediately or permit.canary:
            self._outage.add(permit.call_class)
            self.close_gate(permit.call_class, 2.0, "failing")

    def give_back(self, permit: Permit) -> None:
        """Slots are plenty."""

    def close_gate(self, call_class: CallClass, seconds: float, reason: str, permit: Permit | None = None) -> None:
        self._gates[call_class] = max(self._gates.get(call_class, 0), self._world.clock.now + seconds)

    def snapshot(self, call_class: CallClass) -> LimiterState:
        if self._world.down == Part.REDIS:
            raise LimiterUnavailable("Redis is down.")
        gate = max(0.0, self._gates.get(call_class, 0) - self._world.clock.now)
        return LimiterState(
            call_class=call_class,
            configured=10,
            ceiling_rate=9.9,
            rate=9.9,
            learned=None,
            others=None,
            gate_seconds=gate,
            gate_reason="429" if gate else None,
            probing=False,
            failures=0,
            rejected_last_minute=0,
            granted_last_minute=0,
            granted_per_second=0,
        )

    def bucket(self, call_class: CallClass) -> CallClass:
        return call_class

    def set_limit(self, call_class: CallClass, per_second: float | None) -> None:
        """The limit is wide enough."""
        if self._world.down == Part.REDIS:
            raise LimiterUnavailable("Redis is down.")


class Tokens:
    """One token, unless the credentials are wrong."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def get(self) -> AccessToken:
        if self._world.down == Part.CREDENTIALS:
            raise CredentialsRejected("The secret is wrong.", 401)
        return AccessToken("a-token")

    def reject(self, token: AccessToken) -> None:
        """The next one is as good."""


class SearchIndex:
    """The documents by ref."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.documents: dict[str, Document] = {}

    def upsert(self, documents: Iterable[Document]) -> None:
        self._world.reach(Point.DOCUMENT)
        if self._world.down == Part.SEARCH:
            raise SearchUnavailable("The index is down.")
        for one in documents:
            before = self.documents.setdefault(one.ref, one)
            assert before.transcription_id == one.transcription_id, "the document is another transcript's now"

    def delete(self, ref: str) -> None:
        self.documents.pop(ref, None)

    def close(self) -> None:
        """It holds nothing."""


class _Stopping(threading.Event):
    """Set while processes are asked to stop; a worker that waits stands still."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world

    def is_set(self) -> bool:
        return self._world.down == Part.STOPPING

    def wait(self, timeout: float | None = None) -> bool:
        self._world.reach(Point.WAIT, always=True)
        return self.is_set()


class WatchedLedger(Ledger):
    """The real ledger, with the points around its transactions; serves one world after the other."""

    world: "World"

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite:///{path}")
        #: A look at what is there, as another program has it.
        self.books = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.books.row_factory = sqlite3.Row
        self._log = None  # nothing here has to outlive a power cut
        event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))

    def empty(self) -> None:
        with super().write() as tx:
            for table in reversed(metadata.sorted_tables):
                tx.execute(table.delete())

    def close(self) -> None:
        self.books.close()
        super().close()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self._enter(Point.WRITE)
        with super().write() as tx:
            yield tx
            self.world.before_commit()
        self.world.after_commit()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._enter(Point.READ)
        with super().read() as tx:
            yield tx

    def _enter(self, point: Point) -> None:
        self.world.reach(point)
        if self.world.down == Part.LEDGER:
            raise LedgerUnavailable("The ledger is down.")


class World:
    """Workers, a broker that may lose and double messages, the ledger, and a clock that the test moves."""

    def __init__(
        self, ledger: WatchedLedger, home: Path, *, policy: str, webhooks: bool, status_route: bool, minds_keys: bool
    ) -> None:
        self.clock = Clock()
        self.down: Part | None = None
        self.waiting: list[Message] = []
        self.in_hand: dict[Worker, Message | None] = {}
        self.running: Worker | None = None
        #: What workers that were not killed have been answered.
        self.heard: set[str] = set()
        self._started = self._last_transition = 0
        shutil.rmtree(home, ignore_errors=True)
        settings = Settings(
            home=home,
            public_url="https://retroscribe.example" if webhooks else None,
            webhook_secrets="a secret of the tests",
            unknown_policy=policy,
            unknown_after_seconds=1800,
            deadline_hours=2,
            genesys=GenesysSettings(base_url="https://api.example", client_id="a-client", client_secret="a-secret"),
        )
        self.resources = Resources(settings)
        self.resources.stopping = _Stopping(self)
        self.api = Api(self, status_route=status_route, minds_keys=minds_keys)
        self.index = SearchIndex(self)
        self.ledger = ledger
        self.ledger.world = self
        self.ledger.empty()
        self.resources.__dict__ |= {
            "client": self.api,
            "limiter": Limiter(self),
            "tokens": Tokens(self),
            "index": self.index,
            "ledger": self.ledger,
        }
        self._patches = ExitStack()
        self._patch()

    def _patch(self) -> None:
        dispatch = {
            "send_steps": self._send_steps,
            "send_index": lambda id_, _media_id: self.publish(Message(task_names.INDEX, queues.INDEX, id_)),
            "send_poll": lambda id_, _media_id: self.publish(Message(task_names.POLL, queues.POLL, id_)),
            "send_pump": lambda: self.publish(Message(task_names.PUMP, queues.CONTROL)),
            "waiting_messages": self._waiting_messages,
        }
        self._patches.enter_context(mock.patch.multiple("workers.dispatch", **dispatch))
        for name, module in list(sys.modules.items()):
            if name.startswith("workers.") and getattr(module, "time", None) is time:
                self._patches.enter_context(mock.patch.object(module, "time", self.clock))
        self._patches.enter_context(structlog.testing.capture_logs())

    def close(self) -> None:
        for worker in list(self.in_hand):
            if not worker.over:  # as one is that failed
                worker.die()
        self._patches.close()

    def rows(self, statement: str, *parameters: Any) -> list[sqlite3.Row]:
        """What the ledger holds now, as anybody sees it."""
        return self.ledger.books.execute(statement, parameters).fetchall()

    def reach(self, point: Point, *, always: bool = False) -> None:
        """Where the running worker, if any, may stand still."""
        if self.running is not None:
            self.running.reach(point, always=always)

    def start(
        self,
        name: str,
        work: Callable[[str], None],
        *,
        message: Message | None = None,
        answers: Iterable[Answer] = (),
        ends: Ends = Ends.COMPLETED,
        **options: Any,
    ) -> str:
        """Has a new worker do it until the point; gives what came of it."""
        self._started += 1
        worker = Worker(f"{name} #{self._started}", lambda: work(worker.name), answers, ends)
        self.in_hand[worker] = message
        return self.go(worker, **options)

    def go(self, worker: Worker, *, until: Point | None = None, down: Part | None = None) -> str:
        """Has it go on until the point, with that part down meanwhile."""
        self.running, self.down = worker, down
        try:
            worker.go(until)
        finally:
            self.running = self.down = None
        return self._after(worker)

    def die(self, worker: Worker) -> str:
        worker.die()
        return self._after(worker)

    def _after(self, worker: Worker) -> str:
        if not worker.over:
            return f"{worker.name} stands still {worker.at}"
        message = self.in_hand.pop(worker)
        if not worker.dying:
            self.heard.update(worker.heard)
        if worker.dying and message is not None:
            self.waiting.append(message)
        return f"{worker.name} {'died' if worker.dying else 'is done'}"

    def take(self, message: Message, **options: Any) -> str:
        """Delivers the message to a new worker."""
        self.waiting.remove(message)
        name = f"{message.task.removeprefix('retroscribe.')} {message.recording_id}"
        return self.start(name, lambda by: self._perform(message, by), message=message, **options)

    def _perform(self, message: Message, by: str) -> None:
        """As Celery and the task's base do it: retry, next step, and the acknowledgement last."""
        try:
            following = _TASKS[message.task](self.resources, message, by)
        except Retryable as error:
            if message.task not in (task_names.PUMP, task_names.SWEEP):
                self._publish_if_possible(replace(message, epoch=message.epoch if error.epoch is None else error.epoch))
        except PartUnreachable:
            pass  # the task has failed, and its message is done with
        else:
            if following and message.rest:
                (task, queue), *rest = message.rest
                self._publish_if_possible(replace(message, task=task, queue=queue, rest=tuple(rest)))
        self.reach(Point.ACK)

    def publish(self, message: Message) -> None:
        self.reach(Point.PUBLISH)
        if self.down == Part.BROKER:
            raise PartUnreachable("The broker is down.")
        self.waiting.append(message)

    def _publish_if_possible(self, message: Message) -> None:
        with suppress(PartUnreachable):
            self.publish(message)

    def _send_steps(self, recordings: Iterable[Recording]) -> int:
        sent = 0
        for recording in recordings:
            sent += 1
            live = recording.lane == Lane.LIVE
            steps = _STEPS if recording.state == State.QUEUED else _STEPS[1:]
            (task, queue), *rest = [(task, queues.LIVE if live else queue) for task, queue in steps]
            self.publish(Message(task, queue, recording.id, recording.epoch, tuple(rest)))
        return sent

    def _waiting_messages(self, names: Iterable[str]) -> int:
        if self.down == Part.BROKER:
            raise PartUnreachable("The broker is down.")
        return sum(message.queue in set(names) for message in self.waiting)

    def before_commit(self) -> None:
        worker = self.running
        if worker is not None and worker.until == Point.COMMIT:
            worker.dying = True
            raise Died

    def after_commit(self) -> None:
        self.clock.now += 0.001
        self._check_that_nothing_was_overtaken()
        worker = self.running
        if worker is None:
            return
        worker.seen = self.whether_to_submit()
        if worker.until == Point.UNHEARD:
            worker.until = None
            raise LedgerUnavailable("The ledger was lost while it committed.")
        self.reach(Point.COMMITTED)

    def _check_that_nothing_was_overtaken(self) -> None:
        """No decision has just been taken about a recording of which an event waits."""
        for row in self.rows("SELECT * FROM transitions WHERE id > ?", self._last_transition):
            self._last_transition = row["id"]
            if row["to_state"] in ("parked", "submitting") or row["reason"] in _DECISIONS:
                waiting = "SELECT 1 FROM events WHERE recording_id = ? AND state = 'new'"
                assert not self.rows(waiting, row["recording_id"]), f"{dict(row)} overtook an event"

    def whether_to_submit(self) -> tuple[dict[int, str], dict[str, Any] | None]:
        """The state of each backfill, and the halt that stands."""
        halts = self.rows("SELECT value FROM controls WHERE name LIKE 'halt:%'")
        states = {row["id"]: row["state"] for row in self.rows("SELECT id, state FROM backfills")}
        return states, json.loads(halts[0]["value"]) if halts else None

    def check_intent(self, callback_ref: str) -> int:
        """A request is about to leave: whoever sends it has committed the intent, and had leave to do so then.

        Gives the backfill (its id) that its recording belongs to.
        """
        (row,) = self.rows(
            "SELECT r.id, r.state, r.epoch, r.backfill_id, s.outcome, s.epoch AS intended, s.id AS submission "
            "FROM submissions s JOIN recordings r ON r.id = s.recording_id WHERE s.callback_ref = ?",
            callback_ref,
        )
        assert self.running is not None
        states, halt = self.running.seen
        assert states[row["backfill_id"]] == "running", "a request of a backfill that is not running"
        assert halt is None or halt["probe_recording_id"] == row["id"], "a request while the API client is halted"
        if (row["state"], row["epoch"], row["outcome"]) != ("submitting", row["intended"], "open"):
            proof = "SELECT 1 FROM transitions WHERE recording_id = ? AND to_state = 'transcribing'"
            assert self.rows(proof, row["id"]), f"a request of a recording that is {row['state']}, {row['outcome']}"
        return int(row["backfill_id"])


def _validate(resources: Resources, message: Message, by: str) -> bool:
    return validate(resources, message.recording_id, message.epoch, by=by)


def _submit(resources: Resources, message: Message, by: str) -> bool:
    return submit(resources, message.recording_id, message.epoch, by=by)


_DECISIONS: Final = (Reason.REPEATED, Reason.RESUBMITTED, Reason.RETRIED, Reason.ADOPTED, Reason.DROPPED)
_STEPS: Final = (
    (task_names.VALIDATE, queues.VALIDATE),
    (task_names.SUBMIT, queues.SUBMIT),
    (task_names.TRACK, queues.TRACK),
)
_TASKS: Final[dict[str, Callable[[Resources, Message, str], object]]] = {
    task_names.VALIDATE: _validate,
    task_names.SUBMIT: _submit,
    task_names.TRACK: lambda resources, message, _by: track(resources, message.recording_id),
    task_names.INDEX: lambda resources, message, by: index(resources, message.recording_id, by=by),
    task_names.POLL: lambda resources, message, by: poll(resources, message.recording_id, by=by),
    task_names.PUMP: lambda resources, _message, by: pump(resources, by=by),
    task_names.SWEEP: lambda resources, _message, by: sweep(resources, by=by),
}
