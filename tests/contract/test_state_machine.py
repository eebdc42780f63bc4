"""Whatever interleaves, dies or gets lost, nothing is paid for twice, and nothing is lost."""

import json
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from config import queues, task_names
from tests.support.desk import Desk
from tests.support.machine import Answer, Ends, Message, Part, Point, Transcription, WatchedLedger, World
from workers.errors import InputError, LedgerUnavailable
from workers.ledger import funnel
from workers.ledger.states import ACTIVE, TRANSITIONS
from workers.model import Lane, Reason, State
from workers.pipeline import decisions, operations, steering
from workers.pipeline.events import Verdict, receive

ROUNDS = 150
NAME = "q3"
ENDED = {"indexed", "rejected", "failed", "parked", "cancelled"}
UNSUBMITTED = {"pending", "queued", "validated", "submitting"}

Draw = Callable[..., Any]

answers = st.lists(st.sampled_from([*Answer, *[Answer.GOOD, Answer.LOST, Answer.LATE] * 2]), min_size=1, max_size=2)
ends = st.sampled_from([*Ends, *[Ends.COMPLETED] * 4])

#: Where each task may be disturbed, and by the failure of what.
LEDGER = (Point.READ, Point.WRITE, Point.COMMIT, Point.UNHEARD, Point.COMMITTED)
CALL = (Point.PERMIT, Point.SEND, Point.ANSWER)
POINTS = {
    task_names.VALIDATE: (*LEDGER, *CALL, Point.PUBLISH, Point.ACK),
    task_names.SUBMIT: (*LEDGER, *CALL, *CALL, Point.PUBLISH, Point.ACK),
    task_names.TRACK: (Point.READ, Point.PUBLISH, Point.ACK),
    task_names.INDEX: (*LEDGER, Point.DOCUMENT, Point.PUBLISH, Point.ACK),
    task_names.POLL: (*LEDGER, *CALL, Point.PUBLISH, Point.ACK),
    task_names.PUMP: (*LEDGER, Point.PUBLISH),
    task_names.SWEEP: (*LEDGER, Point.PUBLISH),
}
CALLING = (Part.LEDGER, Part.BROKER, Part.REDIS, Part.CREDENTIALS)
PARTS = {
    task_names.VALIDATE: CALLING,
    task_names.SUBMIT: (*CALLING, Part.STOPPING),
    task_names.TRACK: (Part.LEDGER, Part.BROKER),
    task_names.INDEX: (Part.LEDGER, Part.BROKER, Part.SEARCH),
    task_names.POLL: CALLING,
    task_names.PUMP: (Part.LEDGER, Part.BROKER, Part.REDIS),
    task_names.SWEEP: (Part.LEDGER, Part.BROKER, Part.REDIS),
}


def disturbances(task: str) -> st.SearchStrategy[dict[str, Any]]:
    """How the world treats a task, mostly well."""
    until = st.sampled_from([None] * len(POINTS[task]) + list(POINTS[task]))
    down = st.sampled_from([None] * 3 * len(PARTS[task]) + list(PARTS[task]))
    more = {"answers": answers, "ends": ends} if task == task_names.SUBMIT else {}
    less = {"answers": answers} if task in (task_names.VALIDATE, task_names.POLL) else {}
    return st.fixed_dictionaries({"until": until, "down": down, **more}, optional=less)


class Submissions(RuleBasedStateMachine):
    """Interleaves tasks, events, sweeps, deaths and persons over a few recordings.

    One rule draws what happens: of several, Hypothesis would leave some out of most runs, and few would get anywhere.
    """

    ledger: ClassVar[WatchedLedger]
    home: ClassVar[Path]
    policy: ClassVar[str]

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.epochs: dict[int, int] = {}
        self.paid_again: Counter[int] = Counter()

    @initialize(
        recordings=st.integers(1, 3),
        way_back=st.sampled_from(["both", "both", "webhooks", "polling"]),
        minds_keys=st.sampled_from([False, False, True]),
        newest_first=st.booleans(),
        data=st.data(),
    )
    def begin(self, recordings: int, way_back: str, minds_keys: bool, newest_first: bool, data: st.DataObject) -> None:
        self.world = World(
            self.ledger,
            self.home,
            policy=self.policy,
            webhooks=way_back != "polling",
            status_route=way_back != "webhooks",
            minds_keys=minds_keys,
        )
        self.newest_first = newest_first
        self.desk = Desk(self.world.resources, None)  # type: ignore[arg-type]
        self.desk.ask([f"m-{number}" for number in range(recordings)], backfill=NAME)
        self._beat(task_names.PUMP)
        if data.draw(st.sampled_from([True, True, False]), label="validated"):
            for message in list(self.world.waiting):
                note(self.world.take(message))
            for message in self._to_be_submitted():
                self._take(data.draw, [message])

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        likely = [what for what, weight in self._likely().items() for _ in range(weight)]
        happens = data.draw(st.sampled_from(likely), label="what")
        getattr(self, happens)(data.draw)

    def _likely(self) -> dict[str, int]:
        """What can happen now, and how often it does."""
        world = self.world
        return {
            "work": 4 * bool(world.waiting),
            "submit": 6 * bool(self._to_be_submitted()),
            "work_off": 3 * bool(world.waiting),
            "wake": 3 * bool(world.in_hand),
            "die": 1 * bool(world.in_hand),
            "call_back": 4 * bool(self._callers()),
            "accept_late": 2 * bool(world.api.late),
            "wait": 5,
            "beat": 2,
            "lose": 1 * bool(world.waiting),
            "double": 1 * bool(world.waiting or any(world.in_hand.values())),
            "decide": 1 * self._any_in(*operations.ENDED, *operations.UNDECIDED),
            "order": 1,
        }

    # workers and the broker

    def work(self, draw: Draw) -> None:
        self._take(draw, self.world.waiting)

    def submit(self, draw: Draw) -> None:
        self._take(draw, self._to_be_submitted())

    def work_off(self, _: Draw) -> None:
        for message in list(self.world.waiting):
            note(self.world.take(message))

    def _to_be_submitted(self) -> list[Message]:
        return [message for message in self.world.waiting if message.task == task_names.SUBMIT]

    def _take(self, draw: Draw, messages: list[Message]) -> None:
        message = draw(st.sampled_from(messages))
        note(self.world.take(message, **draw(disturbances(message.task))))

    def beat(self, draw: Draw) -> None:
        task = draw(st.sampled_from([task_names.PUMP, task_names.SWEEP]))
        self._beat(task, **draw(disturbances(task)))

    def _beat(self, task: str, **options: Any) -> None:
        message = Message(task, queues.CONTROL)
        self.world.waiting.append(message)
        note(self.world.take(message, **options))

    def wake(self, draw: Draw) -> None:
        worker = draw(st.sampled_from(list(self.world.in_hand)))
        message = self.world.in_hand[worker]
        options = draw(disturbances(message.task)) if message else {}
        note(self.world.go(worker, until=options.get("until"), down=options.get("down")))

    def die(self, draw: Draw) -> None:
        note(self.world.die(draw(st.sampled_from(list(self.world.in_hand)))))

    def lose(self, draw: Draw) -> None:
        self.world.waiting.remove(draw(st.sampled_from(self.world.waiting)))

    def double(self, draw: Draw) -> None:
        in_hand = [message for message in self.world.in_hand.values() if message]
        self.world.waiting.append(draw(st.sampled_from(self.world.waiting + in_hand)))

    # the API and time

    def call_back(self, draw: Draw) -> None:
        one = draw(st.sampled_from(self._callers()))
        status = draw(st.sampled_from(one.events()))
        self._deliver(one, status, result=draw(st.booleans()), announced=draw(st.booleans()))

    def _callers(self) -> list[Transcription]:
        return [one for one in self.world.api.accepted if one.calls_back and one.events()]

    def _deliver(self, one: Transcription, status: str, *, result: bool, announced: bool, **options: Any) -> None:
        def take(_: str) -> None:
            with suppress(LedgerUnavailable):
                receipt = receive(self.world.resources, one.key, one.body(status, result=result))
                one.over = True
                if result:
                    one.told.add(status)
                assert receipt.verdict in (Verdict.STORED, Verdict.DUPLICATE), receipt
                if receipt.verdict == Verdict.STORED and announced:
                    self.world.waiting.append(Message(task_names.INDEX, queues.INDEX, receipt.recording_id or 0))

        note(self.world.start(f"callback of {one.id}, {status}", take, **options))

    def accept_late(self, draw: Draw) -> None:
        self.world.api.late.remove(late := draw(st.sampled_from(self.world.api.late)))
        late()

    def wait(self, draw: Draw) -> None:
        seconds = draw(st.sampled_from([6, 61, 3 * 3600, *["until something is due"] * 4]))
        self.world.clock.now += self._until_due() if isinstance(seconds, str) else seconds
        if draw(st.sampled_from([True, True, False])):
            self._beats()

    def _beats(self) -> None:
        """Pump and sweep as beat has them run, but for those that would find nothing to do."""
        due = {
            row["state"]
            for row in self.world.rows("SELECT state FROM recordings WHERE due_at <= ?", self.world.clock.now)
        }
        if "pending" in due or self.world.whether_to_submit()[1]:
            self._beat(task_names.PUMP)
        if due - {"pending"} or self.world.rows("SELECT 1 FROM events WHERE state = 'new'"):
            self._beat(task_names.SWEEP)

    def _until_due(self) -> float:
        """Seconds until something is to be done next, and a moment more."""
        now = self.world.clock.now
        due = [row["due_at"] - now for row in self.world.rows("SELECT * FROM recordings WHERE due_at > ?", now)]
        return min(due, default=0) + 1

    # persons

    def decide(self, draw: Draw) -> None:
        pays_again = draw(st.booleans())
        before = self._count(Reason.RETRIED, Reason.RESUBMITTED)
        decision = draw(st.sampled_from(["retry", "resubmit", "drop", "adopt"]))
        if decision == "retry":
            self._retry(pays_again)
        elif decision == "resubmit":
            self._resolve(partial(decisions.resubmit, pay_again=pays_again))
        elif decision == "drop":
            self._resolve(decisions.drop)
        elif self.world.api.accepted:
            self._adopt(draw(st.sampled_from(self.world.api.accepted)))
        if pays_again:
            self.paid_again += self._count(Reason.RETRIED, Reason.RESUBMITTED) - before

    def order(self, draw: Draw) -> None:
        what = draw(st.sampled_from(["ask again", "ask again, live", "pause", "resume", "cancel"]))
        if what.startswith("ask"):
            media_ids = [row["media_id"] for row in self.world.rows("SELECT media_id FROM recordings")]
            lane = Lane.LIVE if what.endswith("live") else Lane.BACKFILL
            self._person(lambda _: self.desk.ask(media_ids, lane=lane, backfill="q4"))
        elif what == "cancel":
            self._person(lambda by: list(steering.cancel(self.world.resources, NAME, by=by)))
        else:
            steer = steering.pause if what == "pause" else steering.resume
            self._person(lambda _: steer(self.world.resources, NAME))

    def _person(self, work: Any) -> None:
        """What a person has done, unless the command refuses it."""

        def refusable(by: str) -> None:
            with suppress(InputError):
                work(by)

        note(self.world.start("a person", refusable))

    def _retry(self, pays_again: bool) -> None:
        for row in self.world.rows("SELECT name FROM backfills"):
            again = partial(operations.retry, self.world.resources, row["name"], operations.ENDED, pay_again=pays_again)
            self._person(lambda by, again=again: list(again(by=by)))

    def _adopt(self, one: Transcription) -> None:
        (row,) = self.world.rows("SELECT * FROM recordings WHERE media_id = ?", one.request.media_id)
        failed = self.world.rows("SELECT 1 FROM submissions WHERE transcription_id = ? AND failed_at", one.id)
        if row["state"] in operations.UNDECIDED and not failed:
            self._resolve(partial(decisions.adopt, transcription_id=one.id), [row["id"]])

    def _resolve(self, decide: Any, ids: list[int] | None = None) -> None:
        resources = self.world.resources

        def work(by: str) -> None:
            chosen = operations.undecided(resources, NAME).ids if ids is None else ids
            list(operations.resolve(resources, chosen, partial(decide, by=by)))

        self._person(work)

    def _any_in(self, *states: State) -> bool:
        return any(row["state"] in states for row in self.world.rows("SELECT state FROM recordings"))

    def _count(self, *reasons: Reason) -> Counter[int]:
        return Counter(
            row["recording_id"] for row in self.world.rows("SELECT * FROM transitions") if row["reason"] in reasons
        )

    # what holds at every moment

    @invariant()
    def holds(self) -> None:
        self.history_is_one_walk_over_the_allowed_transitions()
        self.nothing_is_paid_for_again_unless_the_policy_or_a_person_says_so()
        self.what_was_accepted_is_not_about_to_be_submitted()
        self.each_acceptance_that_we_heard_of_is_in_the_ledger_once_with_its_own_recording()
        self.what_is_indexed_has_its_document()

    def history_is_one_walk_over_the_allowed_transitions(self) -> None:
        stands: dict[int, str] = defaultdict(lambda: "pending")
        for row in self.world.rows("SELECT * FROM transitions ORDER BY id"):
            before, after = State(row["from_state"]), State(row["to_state"])
            assert before == stands[row["recording_id"]], f"{dict(row)} does not follow {stands[row['recording_id']]}"
            assert before == after or after in TRANSITIONS[before], dict(row)
            stands[row["recording_id"]] = after
        for row in self.world.rows("SELECT * FROM recordings"):
            assert row["state"] == stands[row["id"]], f"{dict(row)} was changed without a word"
            assert row["due_at"] is not None or row["state"] not in ACTIVE
            assert row["epoch"] >= self.epochs.get(row["id"], 0), "an epoch went back"
            self.epochs[row["id"]] = row["epoch"]

    def nothing_is_paid_for_again_unless_the_policy_or_a_person_says_so(self) -> None:
        repeated = self._count(Reason.REPEATED)
        failed = self._ids("SELECT recording_id, transcription_id FROM submissions WHERE failed_at IS NOT NULL")
        paid = Counter(one.request.media_id for one in self.world.api.accepted)
        for row in self.world.rows("SELECT * FROM recordings"):
            most = 1 + repeated[row["id"]] + self.paid_again[row["id"]] + len(failed[row["id"]])
            assert paid[row["media_id"]] <= most, f"{dict(row)} was paid for {paid[row['media_id']]} times"
        for row in self.world.rows("SELECT * FROM transitions WHERE reason = ?", Reason.REPEATED):
            assert self.policy == "resubmit" or row["by"].startswith("a person"), f"{dict(row)} under park"

    def what_was_accepted_is_not_about_to_be_submitted(self) -> None:
        for row in self.world.rows("SELECT * FROM recordings"):
            if row["state"] in UNSUBMITTED and not self.paid_again[row["id"]]:
                known = self._known()[row["id"]]
                assert not known, f"{dict(row)} was accepted as {known}"

    def each_acceptance_that_we_heard_of_is_in_the_ledger_once_with_its_own_recording(self) -> None:
        media_ids = {one.id: one.request.media_id for one in self.world.api.accepted}
        first = self._ids("SELECT recording_id, transcription_id FROM submissions WHERE transcription_id IS NOT NULL")
        beside = self._ids("SELECT recording_id, transcription_id FROM double_acceptances")
        failed = self._ids("SELECT recording_id, transcription_id FROM submissions WHERE failed_at IS NOT NULL")
        assert not self.world.rows(
            "SELECT 1 FROM submissions WHERE transcription_id IS NOT NULL AND outcome <> 'accepted'"
        ), "an acceptance was taken back"
        told = self._ids(
            "SELECT recording_id, transcription_id FROM events WHERE state = 'applied' "
            "OR (state = 'ignored' AND type = 'transcription.completed')"
        )
        heard = set(self.world.heard)
        for row in self.world.rows("SELECT * FROM recordings"):
            known = first[row["id"]] | beside[row["id"]]
            heard -= known
            assert {media_ids[one] for one in known} <= {row["media_id"]}
            assert told[row["id"]] <= known, f"{told} of {dict(row)} is not in the ledger"
            shown = len(known - failed[row["id"]] - beside[row["id"]]) <= 1 or self.paid_again[row["id"]]
            assert shown, f"{known} of {dict(row)} is not shown as paid for twice"
        spool = (self.world.resources.settings.home / "spool").glob("*.json")
        heard -= {json.loads(path.read_text())["transcription_id"] for path in spool}
        assert not heard, f"{heard} was lost"

    def what_is_indexed_has_its_document(self) -> None:
        documents = self.world.index.documents
        for row in self.world.rows("SELECT * FROM recordings"):
            if row["state"] == "indexed":
                assert documents[row["ref"]].media_id == row["media_id"]
            else:
                assert row["ref"] not in documents or row["state"] == "completed", dict(row)

    def _known(self) -> dict[int, set[str]]:
        """The acceptances that the ledger knows and that are not proved failed, by recording."""
        return self._ids(
            "SELECT recording_id, transcription_id FROM submissions WHERE outcome = 'accepted' AND failed_at IS NULL "
            "UNION ALL SELECT recording_id, transcription_id FROM double_acceptances"
        )

    def _ids(self, statement: str) -> dict[int, set[str]]:
        found: dict[int, set[str]] = defaultdict(set)
        for recording_id, transcription_id in self.world.rows(statement):
            found[recording_id].add(transcription_id)
        return found

    # the end

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self._calm_down()
                self._all_ended_well()
        finally:
            self.world.close()

    def _calm_down(self) -> None:
        """All faults end, what is paused goes on, and time goes by until nothing happens any more."""
        world = self.world
        self._person(lambda _: steering.resume(world.resources, NAME))
        for worker in list(world.in_hand):
            while worker in world.in_hand:
                note(world.go(worker))
        while world.api.late:
            world.api.late.pop()()
        for _ in range(ROUNDS):
            for message in list(world.waiting):
                note(world.take(message))
            for one in reversed(self._callers()) if self.newest_first else self._callers():
                for status in one.events():
                    if status not in one.told:
                        self._deliver(one, status, result=True, announced=False)
            self._beats()
            due = world.rows("SELECT min(due_at) FROM recordings WHERE due_at IS NOT NULL")[0][0]
            if due is None and not world.waiting and not world.rows("SELECT 1 FROM events WHERE state = 'new'"):
                return
            world.clock.now += max(10, self._until_due())
            self.holds()
        pytest.fail(f"it never calms down: {[dict(row) for row in world.rows('SELECT * FROM recordings')]}")  # noqa: S608 words

    def _all_ended_well(self) -> None:
        world, known = self.world, self._known()
        rows = world.rows("SELECT * FROM recordings")
        for row in rows:
            assert row["state"] in ENDED, dict(row)
            theirs = [one for one in world.api.accepted if one.request.media_id == row["media_id"]]
            transcribed = {one.id for one in theirs if "completed" in one.events()}
            if row["state"] == "indexed":
                assert world.index.documents[row["ref"]].transcription_id in transcribed
            else:
                lost = [
                    one for one in theirs if one.id in transcribed and (one.calls_back or one.id in known[row["id"]])
                ]
                assert not lost, f"{dict(row)} has lost {lost}"
        with world.ledger.read() as tx:
            total = sum(funnel.funnel(tx, row["id"]).total for row in world.rows("SELECT id FROM backfills"))
        assert total == len(rows)
        assert not list((world.resources.settings.home / "spool").glob("*"))


@pytest.mark.parametrize("policy", ["park", "resubmit"])
@pytest.mark.parametrize("examples", [15, pytest.param(400, marks=pytest.mark.slow)])
def test_whatever_interleaves_nothing_is_lost_or_paid_for_twice(
    policy: str, examples: int, empty_ledger: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite3")
    Submissions.ledger = WatchedLedger(tmp_path / "ledger.sqlite3")
    Submissions.home, Submissions.policy = tmp_path / "home", policy
    run_state_machine_as_test(
        Submissions,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
