"""A backfill keeps within its bounds, whatever becomes of a submission, and says why it waits and how it goes on."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from tests.support.desk import BY, Desk, failed
from tests.support.desk_command import DeskCommand
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from workers.cli import follow, run
from workers.errors import RateLimited
from workers.ledger import backfills, handout, recordings, spending
from workers.ledger.spending import Spending
from workers.ledger.tables import backfills as backfills_table
from workers.ledger.tables import recordings as recordings_table
from workers.model import Bounds, Lane, Reason, Recording, State
from workers.pipeline import bounds, decisions, operations, steering
from workers.pipeline.acceptance import Acceptance, record
from workers.pipeline.events import receive
from workers.pipeline.index import index
from workers.pipeline.pump import UNDER_WAY, pump
from workers.pipeline.status import status
from workers.pipeline.submit import _Attempt, _Stopped, submit
from workers.pipeline.sweep import sweep
from workers.pipeline.validate import validate

OK, USAGE, STUCK = 0, 2, 4
HOUR = 3600.0


def validated(desk: Desk, number: int, **bounds: float) -> list[Recording]:
    """Recordings of a backfill q3 with bounds, ready to be submitted, each an hour long."""
    desk.ask([], bounds=Bounds(**bounds))  # type: ignore[arg-type]
    asked = desk.ask(GOOD[:number])
    return [desk.set(one, state=State.VALIDATED, duration_seconds=HOUR, due_at=time.time() + 60) for one in asked]


def spent(desk: Desk, name: str = "q3") -> Spending:
    with desk.resources.ledger.read() as tx:
        target = backfills.by_name(tx, name)
        assert target is not None
        found = spending.of(tx, target.id)
    assert found is not None
    return found


def course_of(desk: Desk, name: str = "q3") -> tuple[str, str | None]:
    now = status(desk.resources, name).backfill
    return now.state, now.paused_for


def go(desk: Desk, one: Recording) -> bool:
    return submit(desk.resources, one.id, one.epoch, by=BY)


@pytest.mark.both_ledgers
@pytest.mark.parametrize("lane", list(Lane))
def test_at_a_cap_the_backfill_is_paused_and_what_has_no_room_waits(desk: Desk, lane: Lane) -> None:
    first, second, third = validated(desk, 3, max_recordings=2)
    desk.set(third, lane=lane)

    assert [go(desk, one) for one in (first, second, third)] == [True, True, False]

    assert course_of(desk) == ("paused", "max_recordings")
    waits = desk.now(third)
    assert (waits.state, waits.reason, waits.attempts) == (State.VALIDATED, Reason.PAUSED, 0)
    assert (desk.submissions(third), spent(desk).recordings) == ([], 2)


def test_a_shorter_one_does_not_slip_in_after_the_pause(desk: Desk) -> None:
    first, longer, short = validated(desk, 3, max_audio_seconds=2 * HOUR)
    desk.set(longer, duration_seconds=1.5 * HOUR)
    desk.set(short, duration_seconds=60.0)

    assert [go(desk, one) for one in (first, longer, short)] == [True, False, False]

    assert (course_of(desk), spent(desk).audio_seconds) == (("paused", "max_audio"), HOUR)


@pytest.mark.parametrize(("status_code", "counted"), [(429, 0), (400, 0), (503, 1)])
def test_only_what_is_surely_not_accepted_is_given_back(
    status_code: int, counted: int, desk: Desk, sandbox: Sandbox
) -> None:
    (one,) = validated(desk, 1, max_recordings=1)
    sandbox.faults(submit_status=status_code)

    with suppress(RateLimited):
        assert not go(desk, one)

    assert (spent(desk).recordings, spent(desk).audio_seconds) == (counted, counted * HOUR)


def test_a_recording_that_needs_several_tries_counts_once(desk: Desk, sandbox: Sandbox) -> None:
    one, other = validated(desk, 2, max_recordings=1)
    sandbox.faults(submit_status=401, count=1)

    assert go(desk, one)  # with a new token
    assert len(desk.submissions(one)) == 2
    assert not go(desk, other)

    assert (spent(desk).recordings, sandbox.stats()["accepted"]) == (1, {one.media_id: 1})


def test_a_repetition_counts_once_more_and_alone_is_given_back(desk: Desk, sandbox: Sandbox) -> None:
    (one,) = validated(desk, 1, max_recordings=2)
    sandbox.faults(accept_then="cut", webhooks="lost")
    go(desk, one)
    counted = []
    for answer in ({"submit_status": 409}, {}):
        resubmit = partial(decisions.resubmit, pay_again=False, by=BY)
        list(operations.resolve(desk.resources, [one.id], resubmit))
        sandbox.faults(**answer)
        go(desk, desk.now(one))
        counted.append(spent(desk).recordings)

    assert counted == [1, 2]
    assert sandbox.stats()["accepted"] == {one.media_id: 2}


def test_a_retry_after_a_failed_transcription_counts_again_for_it_may_be_paid_again(desk: Desk) -> None:
    (one,) = validated(desk, 1, max_recordings=1)
    go(desk, one)
    sent = desk.submissions(one)[0]
    receive(desk.resources, sent.callback_ref, failed(str(sent.transcription_id), "no speech"))
    index(desk.resources, one.id, by=BY)
    assert desk.state(one) == State.FAILED

    list(operations.retry(desk.resources, "q3", [State.FAILED], pay_again=False, by=BY))
    again = desk.set(one, state=State.VALIDATED)

    assert not go(desk, again)
    assert course_of(desk) == ("paused", "max_recordings")


def test_what_was_said_not_to_be_accepted_and_is_counts_once_it_is_proved(desk: Desk, sandbox: Sandbox) -> None:
    (one,) = validated(desk, 1, max_recordings=1)
    sandbox.faults(submit_status=400)
    go(desk, one)
    assert spent(desk).recordings == 0
    fact = Acceptance(desk.submissions(one)[0].callback_ref, "t-1")

    for _ in range(2):
        with desk.resources.ledger.write() as tx:
            record(tx, desk.resources, fact, by=BY)

    assert spent(desk).recordings == 1


def test_what_is_handed_over_before_it_is_submitted_counts_where_it_goes(desk: Desk) -> None:
    paid, waits = validated(desk, 2, max_recordings=9)
    desk.ask(GOOD[:2], backfill="q4", bounds=Bounds(max_recordings=1))
    go(desk, paid)

    list(steering.cancel(desk.resources, "q3", by=BY))
    moved = desk.now(waits)

    assert (moved.backfill, go(desk, moved)) == ("q4", True)
    assert (spent(desk).recordings, spent(desk, "q4").recordings) == (1, 1)


def test_it_goes_on_by_itself_when_what_took_the_last_room_was_not_accepted(desk: Desk) -> None:
    under_way, waits = validated(desk, 2, max_recordings=1)
    with desk.resources.ledger.write() as tx:
        assert spending.reserve(tx, under_way, under_way.backfill_id, 7)
    assert not go(desk, waits)
    pump(desk.resources, by=BY)
    assert course_of(desk) == ("paused", "max_recordings")

    with desk.resources.ledger.write() as tx:
        spending.give_back(tx, under_way.id, 7)
    pump(desk.resources, by=BY)

    assert course_of(desk) == ("running", None)
    assert sweep(desk.resources, by=BY) == 1
    assert go(desk, desk.now(waits))


def test_a_person_who_pauses_it_at_its_cap_has_the_last_word(desk: Desk) -> None:
    under_way, waits = validated(desk, 2, max_recordings=1)
    with desk.resources.ledger.write() as tx:
        assert spending.reserve(tx, under_way, under_way.backfill_id, 7)
    go(desk, waits)

    assert steering.pause(desk.resources, "q3").changed
    with desk.resources.ledger.write() as tx:
        spending.give_back(tx, under_way.id, 7)
    pump(desk.resources, by=BY)

    assert course_of(desk) == ("paused", None)
    assert not steering.pause(desk.resources, "q3").changed


class TestWhatIsSaidOfACap:
    def at_its_cap(self, desk: Desk, **bounds: float) -> Recording:
        first, second = validated(desk, 2, **bounds)
        assert [go(desk, one) for one in (first, second)] == [True, False]
        return second

    def test_status_and_explain_say_what_is_reached_and_what_raises_it(self, desk: Desk, command: DeskCommand) -> None:
        second = self.at_its_cap(desk, max_recordings=1)

        shown, found = command("status", "q3").out, command("status", "q3", "--json").json
        why = "its cap of 1 recording is reached; `retroscribe resume q3 --max-recordings N` raises it, to 2 or more"
        assert f"paused: {why}" in shown
        assert "caps: 1 of 1 recordings paid for or perhaps paid for" in shown
        assert (found["state"], found["paused_for"]) == ("paused", "max_recordings")
        assert found["paused_detail"] == "its cap of 1 recording is reached"
        caps = {"max_recordings": 1, "recordings": 1, "max_audio_hours": None, "audio_hours": 1.0}
        assert (found["caps"], found["eta_seconds"]) == (caps, None)
        assert "q3: paused, for its cap of 1 recording is reached" in command("status").out
        assert f"Backfill q3 is paused: {why}" in command("explain", second.media_id).out
        told = command("explain", second.media_id, "--json").json["recordings"][0]
        assert told["backfill_paused_detail"] == found["paused_detail"]

    def test_a_plain_resume_says_in_one_sentence_that_it_is_reached(self, desk: Desk, command: DeskCommand) -> None:
        self.at_its_cap(desk, max_audio_seconds=1.5 * HOUR)

        answer = command("resume", "q3")

        assert (answer.code, answer.out) == (USAGE, "")
        assert answer.err.endswith(
            "q3 stays as it is, for its cap of 1.5 audio hours is reached (1.00 h are used, and the next recording "
            "lasts 3600 s): `retroscribe resume q3 --max-audio-hours N` raises it, to 2 or more, and lifts it with 0.\n"
        )
        assert course_of(desk) == ("paused", "max_audio")

    @pytest.mark.parametrize("cap", ["2", "0"])
    def test_a_higher_one_or_none_lets_it_go_on(self, cap: str, desk: Desk, command: DeskCommand) -> None:
        second = self.at_its_cap(desk, max_recordings=1)

        answer = command("resume", "q3", "--max-recordings", cap)

        assert (answer.code, "q3 is running again" in answer.out) == (OK, True)
        assert ("Its cap is 2 recordings now." if int(cap) else "It has no cap on recordings now.") in answer.out
        assert spent(desk).max_recordings == (int(cap) or None)
        assert sweep(desk.resources, by=BY) == 1
        assert go(desk, desk.now(second))
        assert spent(desk).recordings == 2

    def test_a_cap_below_what_is_spent_is_refused_and_changes_nothing(self, desk: Desk, command: DeskCommand) -> None:
        self.at_its_cap(desk, max_recordings=1)

        assert command("resume", "q3", "--max-recordings", "1").code == USAGE
        assert (course_of(desk)[0], spent(desk).max_recordings) == ("paused", 1)

    @pytest.mark.parametrize("hours", ["nan", "inf", "-1"])
    def test_hours_that_are_no_number_are_refused(self, hours: str, desk: Desk, command: DeskCommand) -> None:
        self.at_its_cap(desk, max_audio_seconds=HOUR)

        answer = command("resume", "q3", "--max-audio-hours", hours)

        assert (answer.code, f"--max-audio-hours {hours} is no number" in answer.err) == (USAGE, True)
        assert spent(desk).max_audio_seconds == HOUR

    def test_a_cap_for_what_was_never_counted_is_refused_with_a_way(self, desk: Desk, command: DeskCommand) -> None:
        desk.ask(["m-1"])

        answer = command("resume", "q3", "--max-recordings", "5")

        assert (answer.code, "q3 was begun without a cap" in answer.err) == (USAGE, True)

    def test_who_follows_it_sees_what_was_submitted_to_its_end(
        self, desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        second = self.at_its_cap(desk, max_recordings=1)
        (first,) = (one for one in desk.ask(GOOD[:2]) if one.id != second.id)

        def time_goes_by(_: float) -> None:
            desk.set(first, state=State.INDEXED, due_at=None)

        monkeypatch.setattr(follow.time, "sleep", time_goes_by)

        assert follow.follow(desk.resources, "q3") == STUCK
        assert desk.state(first) == State.INDEXED
        assert "q3 is paused: its cap of 1 recording is reached; `retroscribe resume q3" in capsys.readouterr().err


def canary_of(desk: Desk, number: int, size: int = 20) -> list[Recording]:
    """A backfill with a canary of 20, and what the pump handed out first."""
    desk.ask([f"m-{one}" for one in range(number)], bounds=Bounds(canary=size))
    return handed_out(desk)


def handed_out(desk: Desk) -> list[Recording]:
    """What is out after the pump has run twice: as often as you like, more is not handed out then."""
    for _ in range(2):
        pump(desk.resources, by=BY)
    return [one for one in found(desk) if one.state == State.QUEUED]


def found(desk: Desk) -> list[Recording]:
    with desk.resources.ledger.read() as tx:
        rows = tx.execute(recordings.query().order_by(recordings_table.c.id)).mappings()
        return [recordings.from_row(row) for row in rows]


def end(desk: Desk, some: Sequence[Recording], state: State = State.INDEXED, reason: str | None = None) -> None:
    for one in some:
        desk.set(one, state=state, reason=reason, due_at=None if state != State.UNKNOWN else 4e9)


class TestCanary:
    @pytest.mark.both_ledgers
    def test_it_goes_ahead_and_the_rest_follows_by_itself_when_it_was_good(self, desk: Desk) -> None:
        first = canary_of(desk, 30)
        assert [one.media_id for one in first] == [f"m-{one}" for one in range(20)]
        end(desk, first[1:])
        assert handed_out(desk) == first[:1]  # all but one are not all
        end(desk, first[:1], State.FAILED, Reason.REQUEST_REFUSED)

        assert len(handed_out(desk)) == 10

        backfill = status(desk.resources, "q3").backfill
        assert (backfill.state, backfill.canary_state) == ("running", "passed")

    def test_more_than_one_in_twenty_failed_pauses_it_with_the_reasons(self, desk: Desk, command: DeskCommand) -> None:
        first = canary_of(desk, 9, size=6)
        ends = (State.INDEXED, State.PARKED, State.FAILED, State.REJECTED, State.REJECTED, State.REJECTED)
        for number, (one, state) in enumerate(zip(first, ends, strict=True)):
            end(desk, [one], state, f"reason_{min(number, 4)}")

        assert handed_out(desk) == []

        assert course_of(desk) == ("paused", "canary")
        why = (
            "5 of its first 6 recordings failed, more than 5 %: 2 rejected (reason_4), 1 failed (reason_2), 1 parked "
            "(reason_1) and 1 more reason"
        )
        shown = command("status", "q3").out
        assert f"paused: {why}; `retroscribe resume q3` has the rest go on in spite of it" in shown
        found = command("status", "q3", "--json").json
        assert (found["paused_for"], found["paused_detail"]) == ("canary", why)
        assert found["canary"] == {"size": 6, "state": "failed", "ended": 6, "failed": 5}
        assert why in command("explain", "m-8").out

    def test_resume_has_the_rest_go_on_in_spite_of_it(self, desk: Desk, command: DeskCommand) -> None:
        end(desk, canary_of(desk, 5, size=2), State.FAILED)
        assert handed_out(desk) == []

        assert command("resume", "q3").code == OK

        assert len(handed_out(desk)) == 3
        assert status(desk.resources, "q3").backfill.canary_state == "overruled"

    def test_a_person_who_pauses_and_resumes_it_in_flight_does_not_end_it(self, desk: Desk) -> None:
        first = canary_of(desk, 5, size=2)
        steering.pause(desk.resources, "q3")
        steering.resume(desk.resources, "q3")

        assert handed_out(desk) == first
        assert status(desk.resources, "q3").backfill.canary_state == "flying"

    def test_one_that_comes_back_is_handed_out_again_and_no_other_instead(self, desk: Desk) -> None:
        first = canary_of(desk, 5, size=2)
        desk.set(first[1], state=State.PENDING, due_at=1.0)

        assert [one.id for one in handed_out(desk)] == [one.id for one in first]

    @pytest.mark.parametrize("number", [1, 3])
    def test_where_no_more_are_asked_for_nothing_is_different(self, number: int, desk: Desk) -> None:
        first = canary_of(desk, number, size=3)
        assert len(first) == number
        end(desk, first, State.FAILED)

        assert handed_out(desk) == []

        assert course_of(desk) == ("running", None)
        assert status(desk.resources, "q3").bounds.tally is None

    def test_it_is_filled_up_from_what_is_taken_in_later(self, desk: Desk) -> None:
        canary_of(desk, 1, size=3)
        desk.ask([f"m-{one}" for one in range(6)])

        assert len(handed_out(desk)) == 3

    def test_a_recording_of_lane_live_waits_for_it_too(self, desk: Desk) -> None:
        canary_of(desk, 5, size=2)
        desk.set(found(desk)[4], lane=Lane.LIVE)

        assert len(handed_out(desk)) == 2

    def test_one_of_it_finds_out_whether_a_halt_can_be_lifted(self, desk: Desk) -> None:
        first = canary_of(desk, 3, size=1)
        desk.set(first[0], state=State.PENDING, due_at=1.0)
        desk.ask(["m-9"], backfill="q4", bounds=Bounds(only_between=around(CLOSED)))

        with desk.resources.ledger.write() as tx:
            assert bounds.oldest_unsubmitted(tx) == desk.now(first[0])
        end(desk, first)
        with desk.resources.ledger.write() as tx:
            assert bounds.oldest_unsubmitted(tx) is None

    def test_others_go_on_meanwhile(self, desk: Desk) -> None:
        canary_of(desk, 5, size=3)
        desk.ask(["other-1", "other-2"], backfill="q4")

        assert len(handed_out(desk)) == 5

    def test_status_and_explain_say_what_the_rest_waits_for(self, desk: Desk, command: DeskCommand) -> None:
        first = canary_of(desk, 5, size=3)
        end(desk, first[:1])
        end(desk, first[1:2], State.REJECTED)
        desk.set(first[2], state=State.TRANSCRIBING)

        waits = "2 of the first 3 have ended, 1 failed; the rest waits for 1 transcribing"

        assert f"canary: {waits}" in command("status", "q3").out
        found = command("status", "q3", "--json").json
        assert (found["canary"], found["eta_seconds"]) == (
            {"size": 3, "state": "flying", "ended": 2, "failed": 1},
            None,
        )
        assert f"Backfill q3 has a canary: {waits}." in command("explain", "m-4").out
        assert "canary" not in command("explain", "m-2").out


def around(hours: float) -> str:
    """Open for two hours around a moment so many hours from now."""
    begins = time.time() + (hours - 1) * HOUR
    start, ends = (datetime.fromtimestamp(one, UTC) for one in (begins, begins + 2 * HOUR))
    return f"{start:%H:%M}-{ends:%H:%M} UTC"


CLOSED, OPEN = 4.0, 0.0


class TestQuietHours:
    def set_hours(self, desk: Desk, hours: float) -> None:
        with desk.resources.ledger.write() as tx:
            tx.execute(backfills_table.update().values(only_between=around(hours)))

    @pytest.mark.both_ledgers
    @pytest.mark.parametrize("lane", list(Lane))
    def test_nothing_is_handed_out_looked_up_or_submitted_before_they_are_over(
        self, lane: Lane, desk: Desk, sandbox: Sandbox
    ) -> None:
        queued, ready, waits = desk.ask(GOOD[:3], lane=lane, bounds=Bounds(only_between=around(OPEN)))
        ready = desk.set(ready, state=State.VALIDATED, due_at=1.0)
        queued = desk.set(queued, state=State.QUEUED)
        self.set_hours(desk, CLOSED)
        queued, ready = desk.now(queued), desk.now(ready)

        pump(desk.resources, by=BY)
        assert not validate(desk.resources, queued.id, queued.epoch, by=BY)
        assert not go(desk, ready)
        sweep(desk.resources, by=BY)

        assert [desk.state(one) for one in (queued, ready, waits)] == [State.PENDING, State.VALIDATED, State.PENDING]
        now = desk.now(ready)
        assert (now.reason, now.attempts, now.resends) == (Reason.QUIET_HOURS, 0, 0)
        assert 2.9 * HOUR < (now.due_at or 0) - time.time() < 3.1 * HOUR
        assert (sandbox.stats()["submits"], desk.state(waits)) == (0, State.PENDING)

        self.set_hours(desk, OPEN)
        assert pump(desk.resources, by=BY) == 2
        assert go(desk, desk.now(ready))

    def test_a_submission_that_waited_for_its_permit_until_they_began_does_not_leave(
        self, desk: Desk, sandbox: Sandbox
    ) -> None:
        (ready,) = validated(desk, 1, only_between=around(OPEN))  # type: ignore[arg-type]
        attempt = _Attempt(desk.resources, desk.now(ready), BY)
        self.set_hours(desk, CLOSED)

        with pytest.raises(_Stopped):
            attempt._intend()

        assert (desk.state(ready), sandbox.stats()["submits"]) == (State.VALIDATED, 0)

    def test_it_takes_no_room_from_others_and_is_nothing_that_shows_the_way_back(self, desk: Desk) -> None:
        validated(desk, 3, only_between=around(OPEN))  # type: ignore[arg-type]
        self.set_hours(desk, CLOSED)
        with desk.resources.ledger.read() as tx:
            closed = bounds.closed(tx)
            assert handout.out(tx, Lane.BACKFILL, closed) == {}
            assert not recordings.is_any_under_way(tx, UNDER_WAY, closed)
            assert bounds.oldest_unsubmitted(tx) is None
            assert handout.oldest_unsubmitted(tx) is not None

    def test_status_and_explain_say_until_when_it_waits(self, desk: Desk, command: DeskCommand) -> None:
        hours = around(CLOSED)
        opens = hours[:5]
        desk.ask(["m-1"], bounds=Bounds(only_between=hours))

        assert f"goes only between {hours}: waits until {opens} UTC" in command("status", "q3").out
        assert f"q3: waits until {opens} UTC" in command("status").out
        told = command("status", "q3", "--json").json
        assert told["only_between"] == hours
        assert abs(datetime.fromisoformat(told["opens_at"]).timestamp() - time.time() - 3 * HOUR) < 90
        assert 2.9 * HOUR < told["eta_seconds"] < 3.1 * HOUR
        explained = command("explain", "m-1").out
        assert f"Backfill q3 goes only between {hours}: it waits until {opens} UTC." in explained
        assert "waits until" in follow._line(status(desk.resources, "q3"))


class TestRun:
    @pytest.fixture(autouse=True)
    def a_list(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run, "missing_consumers", lambda _: set())
        (tmp_path / "q3.csv").write_text("media_id\nm-1\nm-2\n")

    def test_its_options_are_kept_with_the_backfill_and_said(self, command: DeskCommand) -> None:
        hours = ["--only-between", "20:00-6:00", "--time-zone", "Europe/Madrid"]
        caps = ["--max-recordings", "1000", "--max-audio-hours", "2.5"]

        answer = command("run", "q3.csv", "--no-follow", *caps, "--canary", "20", *hours)

        assert answer.code == OK
        assert (
            "q3: at most 1000 recordings and 2.5 audio hours are submitted, the first 20 go ahead of the rest, it goes "
            "only between 20:00-06:00 Europe/Madrid." in answer.err
        )
        told = command("status", "q3", "--json").json
        assert (told["caps"]["max_recordings"], told["caps"]["max_audio_hours"]) == (1000, 2.5)
        assert (told["canary"]["size"], told["only_between"]) == (20, "20:00-06:00 Europe/Madrid")

    def test_more_for_the_same_name_needs_no_bounds_and_takes_no_others(self, command: DeskCommand) -> None:
        first = command("run", "q3.csv", "--no-follow", "--max-recordings", "5")
        again, other = (command("run", "q3.csv", "--no-follow", *more) for more in ([], ["--max-recordings", "6"]))

        assert (first.code, again.code, other.code) == (OK, OK, USAGE)
        assert "Backfill 'q3' exists with --max-recordings 5, not 6" in other.err
        assert "change a cap with `retroscribe resume q3`" in other.err

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--max-recordings", "0"], "'--max-recordings'"),
            (["--max-audio-hours", "0"], "--max-audio-hours 0 is no number above 0"),
            (["--max-audio-hours", "nan"], "--max-audio-hours nan is no number above 0"),
            (["--canary", "0"], "'--canary'"),
            (["--only-between", "20:00-20:00"], "begins and ends at the same time"),
            (["--only-between", "late"], "--only-between 'late' is no span of time"),
            (["--only-between", "20:00-06:00", "--time-zone", "Mars"], "--time-zone 'Mars' is not known"),
            (["--time-zone", "UTC"], "--time-zone UTC says whose clock --only-between means"),
        ],
    )
    def test_what_makes_no_sense_is_refused_before_anything_is_stored(
        self, options: list[str], said: str, command: DeskCommand
    ) -> None:
        answer = command("run", "q3.csv", "--no-follow", *options)

        assert (answer.code, said in answer.err) == (USAGE, True), answer.err
        assert json.loads(command("status", "--json").out) == []

    def test_a_single_recording_has_no_bounds(self, command: DeskCommand) -> None:
        answer = command("run", "--media-id", "m-1", "--canary", "20")

        assert (answer.code, "are for a list: name a file" in answer.err) == (USAGE, True)
