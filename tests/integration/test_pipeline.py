"""The steps between intake and search, over a real Valkey, a real sandbox and a real ledger."""

import json
import time

import pytest
import redis
import uvicorn

from config import queues
from tests.conftest import MakeResources
from tests.support.desk import BY, Desk, completed
from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD, IDS
from workers.errors import ApiUnavailable
from workers.ledger import backfills, events, recordings
from workers.ledger.tables import events as inbox
from workers.model import CallClass, Lane, Reason, State
from workers.pipeline.events import receive
from workers.pipeline.index import index
from workers.pipeline.pump import pump
from workers.pipeline.submit import submit
from workers.pipeline.sweep import sweep
from workers.pipeline.track import track
from workers.pipeline.validate import validate
from workers.search.query import parse

pytestmark = pytest.mark.both_ledgers

UNSUPPORTED, NO_DURATION, MISSING, TOO_LONG = IDS[3], IDS[47], IDS[57], IDS[84]
PAST = 1.0


def test_a_recording_goes_all_the_way_and_is_found_by_what_was_said(
    desk: Desk, receiver: uvicorn.Server, sandbox: Sandbox, audit_records: list[str]
) -> None:
    (asked,) = desk.ask([GOOD[0]])

    assert pump(desk.resources, by=BY) == 1
    (message,) = desk.messages(queues.VALIDATE)
    assert validate(desk.resources, message["recording_id"], message["epoch"], by=BY)
    assert submit(desk.resources, message["recording_id"], message["epoch"], by=BY)
    track(desk.resources, message["recording_id"])
    eventually(lambda: desk.messages(queues.INDEX), what="the receiver's index message")
    index(desk.resources, message["recording_id"], by=BY)

    done = desk.now(asked)
    assert desk.way(asked) == ["queued", "validated", "submitting", "transcribing", "completed", "indexed"]
    assert sandbox.stats()["accepted"] == {GOOD[0]: 1}
    (hit,) = desk.resources.index.search(parse("", media_id=GOOD[0])).hits
    assert (hit.ref, hit.transcription_id) == (asked.ref, done.transcription_id)
    (record,) = map(json.loads, audit_records)
    assert record["status"] == "completed"
    assert (record["mediaId"], record["transcriptionId"]) == (GOOD[0], done.transcription_id)
    assert record["latencySeconds"] >= 0


def test_a_message_carries_ids_and_epoch_and_nothing_else(desk: Desk) -> None:
    (asked,) = desk.ask([GOOD[0]])

    pump(desk.resources, by=BY)

    assert desk.messages(queues.VALIDATE) == [
        {
            "task": "retroscribe.validate",
            "recording_id": asked.id,
            "media_id": GOOD[0],
            "epoch": asked.epoch + 1,
        }
    ]


def test_usable_media_is_validated_and_its_properties_are_kept(desk: Desk) -> None:
    ready = desk.validated(GOOD[0])

    assert ready.state == State.VALIDATED
    assert ready.codec
    assert ready.format
    assert ready.duration_seconds is not None


@pytest.mark.parametrize(
    ("media_id", "reason"),
    [
        (MISSING, Reason.MEDIA_NOT_FOUND),
        (UNSUPPORTED, Reason.CODEC_UNSUPPORTED),
        (NO_DURATION, Reason.DURATION_MISSING),
        (TOO_LONG, Reason.DURATION_TOO_LONG),
    ],
)
def test_unusable_media_is_rejected_for_its_reason_with_an_audit_record(
    desk: Desk, sandbox: Sandbox, audit_records: list[str], media_id: str, reason: Reason
) -> None:
    out = desk.queued(media_id)

    assert not validate(desk.resources, out.id, out.epoch, by=BY)

    found = desk.now(out)
    assert (found.state, found.reason) == (State.REJECTED, reason)
    assert found.detail
    assert [json.loads(line)["reason"] for line in audit_records] == [reason]
    assert sandbox.stats()["submits"] == 0


def test_a_message_of_an_old_epoch_validates_nothing(desk: Desk, sandbox: Sandbox) -> None:
    out = desk.queued(GOOD[0])

    assert not validate(desk.resources, out.id, out.epoch - 1, by=BY)

    assert desk.now(out) == out
    assert sandbox.stats()["media_lookups"] == 0


def test_a_message_delivered_again_goes_on_without_looking_the_media_up_again(desk: Desk, sandbox: Sandbox) -> None:
    ready = desk.validated(GOOD[0])

    assert validate(desk.resources, ready.id, ready.epoch, by=BY)

    assert desk.now(ready) == ready
    assert sandbox.stats()["media_lookups"] == 1


def test_media_look_ups_that_fail_are_tried_again_and_fail_the_recording_after_the_last_attempt(
    make_resources: MakeResources, broker: redis.Redis, sandbox: Sandbox
) -> None:
    desk = Desk(make_resources(RETROSCRIBE_MAX_ATTEMPTS="2"), broker)
    out = desk.queued(GOOD[0])
    sandbox.faults(media_status=503)

    with pytest.raises(ApiUnavailable) as caught:
        validate(desk.resources, out.id, out.epoch, by=BY)
    assert desk.now(out).attempts == 1
    assert caught.value.epoch == out.epoch
    assert caught.value.retry_after_seconds is not None
    assert not validate(desk.resources, out.id, out.epoch, by=BY)

    found = desk.now(out)
    assert (found.state, found.reason) == (State.FAILED, Reason.ATTEMPTS_EXHAUSTED)


def test_the_pump_fills_its_window_in_equal_shares_and_no_further(
    make_resources: MakeResources, broker: redis.Redis
) -> None:
    desk = Desk(make_resources(RETROSCRIBE_SUBMIT_LIMIT="1"), broker)
    desk.ask([f"first-{n}" for n in range(150)], backfill="first")
    desk.ask([f"second-{n}" for n in range(150)], backfill="second")

    assert pump(desk.resources, by=BY) == 200
    assert pump(desk.resources, by=BY) == 0

    sent = [message["media_id"].split("-")[0] for message in desk.messages(queues.VALIDATE)]
    assert (sent.count("first"), sent.count("second")) == (100, 100)


def test_live_recordings_have_a_queue_and_a_window_of_their_own(
    make_resources: MakeResources, broker: redis.Redis
) -> None:
    desk = Desk(make_resources(RETROSCRIBE_SUBMIT_LIMIT="1"), broker)
    desk.ask([f"first-{n}" for n in range(201)], backfill="first")
    pump(desk.resources, by=BY)
    desk.ask(["call"], lane=Lane.LIVE, backfill="calls")

    assert pump(desk.resources, by=BY) == 1

    assert [message["media_id"] for message in desk.messages(queues.LIVE)] == ["call"]


def test_nothing_of_a_backfill_that_does_not_run_is_handed_out_or_submitted(desk: Desk, sandbox: Sandbox) -> None:
    ready = desk.validated(GOOD[0])
    desk.ask(GOOD[:2])
    with desk.resources.ledger.write() as tx:
        tx.execute(backfills.backfills.update().values(state="paused"))

    assert pump(desk.resources, by=BY) == 0
    assert not submit(desk.resources, ready.id, ready.epoch, by=BY)

    assert desk.state(ready) == State.VALIDATED
    assert sandbox.stats()["submits"] == 0


def test_nothing_is_handed_out_while_the_gate_is_more_than_half_a_minute_away(desk: Desk) -> None:
    desk.ask([GOOD[0]])
    desk.resources.limiter.close_gate(CallClass.SUBMIT, 45, "429")

    assert pump(desk.resources, by=BY) == 0


def test_a_lost_message_is_sent_again_with_a_new_epoch_and_the_old_one_does_nothing_then(desk: Desk) -> None:
    lost = desk.queued(GOOD[0])
    desk.set(lost, due_at=PAST)

    assert sweep(desk.resources, by=BY) == 1

    (message,) = desk.messages(queues.VALIDATE)
    assert (message["recording_id"], message["epoch"]) == (lost.id, lost.epoch + 1)
    assert not validate(desk.resources, lost.id, lost.epoch, by=BY)
    assert validate(desk.resources, lost.id, message["epoch"], by=BY)


def test_a_validated_recording_whose_message_was_lost_is_sent_on_to_submit(desk: Desk) -> None:
    desk.set(desk.validated(GOOD[0]), due_at=PAST)

    sweep(desk.resources, by=BY)

    assert [message["task"] for message in desk.messages(queues.SUBMIT)] == ["retroscribe.submit"]
    assert desk.messages(queues.VALIDATE) == []


def test_a_message_that_still_waits_is_not_sent_again(desk: Desk) -> None:
    (asked,) = desk.ask([GOOD[0]])
    pump(desk.resources, by=BY)
    out = desk.set(asked, due_at=PAST)

    sweep(desk.resources, by=BY)

    assert len(desk.messages(queues.VALIDATE)) == 1
    found = desk.now(out)
    assert found.epoch == out.epoch
    assert (found.due_at or 0) > time.time()


def test_what_is_lost_on_its_way_to_submit_comes_before_what_may_still_wait_for_its_look_up(desk: Desk) -> None:
    lost = desk.validated(GOOD[0])
    others = desk.ask(GOOD[1:4], backfill="others")
    pump(desk.resources, by=BY)
    for late in (*others, lost):
        desk.set(late, due_at=PAST)

    sweep(desk.resources, by=BY)

    assert [message["recording_id"] for message in desk.messages(queues.SUBMIT)] == [lost.id]
    assert len(desk.messages(queues.VALIDATE)) == len(others)


def test_messages_that_get_lost_again_and_again_are_sent_less_and_less_often(desk: Desk) -> None:
    lost, distances = desk.queued(GOOD[0]), []
    for _ in range(6):
        desk.set(lost, due_at=PAST)
        desk.lose_messages()
        sweep(desk.resources, by=BY)
        distances.append(round((desk.now(lost).due_at or 0) - time.time(), -1))

    assert distances == [60, 120, 240, 480, 600, 600]


def test_a_submission_whose_worker_died_is_unknown_when_its_lease_is_over(desk: Desk) -> None:
    ready = desk.validated(GOOD[0])
    with desk.resources.ledger.write() as tx:
        intent = recordings.move(tx, ready, State.SUBMITTING, by=BY, due_at=PAST, new_epoch=True)
    assert intent is not None

    sweep(desk.resources, by=BY)

    found = desk.now(ready)
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.LEASE_EXPIRED)
    assert found.epoch > intent.epoch


def test_an_unknown_outcome_is_parked_for_a_person_when_its_time_is_over(desk: Desk, sandbox: Sandbox) -> None:
    sandbox.faults(accept_then="cut", webhooks="lost")
    ready = desk.validated(GOOD[0])
    submit(desk.resources, ready.id, ready.epoch, by=BY)
    desk.set(ready, due_at=PAST)

    sweep(desk.resources, by=BY)

    found = desk.now(ready)
    assert (found.state, found.reason) == (State.PARKED, Reason.OUTCOME_UNKNOWN)
    assert desk.messages(queues.SUBMIT) == []


def test_an_event_in_the_inbox_comes_before_the_parking_of_an_unknown_outcome(desk: Desk, sandbox: Sandbox) -> None:
    sandbox.faults(accept_then="cut", webhooks="lost")
    ready = desk.validated(GOOD[0])
    submit(desk.resources, ready.id, ready.epoch, by=BY)
    receive(desk.resources, desk.submissions(ready)[0].callback_ref, completed("t-1", "hello"))
    desk.set(ready, due_at=PAST)

    sweep(desk.resources, by=BY)
    assert desk.state(ready) == State.UNKNOWN
    index(desk.resources, ready.id, by=BY)

    assert desk.state(ready) == State.INDEXED


def test_an_event_whose_index_message_was_lost_is_found_by_the_sweep(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])
    receive(desk.resources, desk.submissions(accepted)[0].callback_ref, completed(str(accepted.transcription_id), "a"))
    with desk.resources.ledger.write() as tx:
        tx.execute(inbox.update().values(received_at=PAST))
        assert events.waiting(tx, accepted.id)

    assert sweep(desk.resources, by=BY) == 1

    assert [message["recording_id"] for message in desk.messages(queues.INDEX)] == [accepted.id]


def test_while_the_search_index_is_away_a_recording_stays_completed_and_is_indexed_when_it_is_back(
    desk: Desk, audit_records: list[str]
) -> None:
    accepted = desk.submitted(GOOD[0])
    receive(desk.resources, desk.submissions(accepted)[0].callback_ref, completed(str(accepted.transcription_id), "a"))
    away = desk.resources.settings.search_path
    away.mkdir()

    index(desk.resources, accepted.id, by=BY)
    assert desk.state(accepted) == State.COMPLETED
    assert audit_records == []

    away.rmdir()
    desk.set(accepted, due_at=PAST)
    sweep(desk.resources, by=BY)
    (message,) = desk.messages(queues.INDEX)
    index(desk.resources, message["recording_id"], by=BY)

    assert desk.state(accepted) == State.INDEXED
    assert len(audit_records) == 1


def test_indexing_again_writes_no_second_document_and_no_second_audit_record(
    desk: Desk, audit_records: list[str]
) -> None:
    accepted = desk.submitted(GOOD[0])
    receive(desk.resources, desk.submissions(accepted)[0].callback_ref, completed(str(accepted.transcription_id), "a"))

    for _ in range(3):
        index(desk.resources, accepted.id, by=BY)

    assert desk.resources.index.search(parse("", media_id=GOOD[0])).total == 1
    assert len(audit_records) == 1
