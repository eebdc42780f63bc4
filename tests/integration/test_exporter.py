"""The fleet's metrics over real parts: what they count, and that what is away takes nothing else with it."""

import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from tests.conftest import MakeResources, free_port
from tests.support.command import run_command, running_command
from tests.support.desk import BY, Desk, completed
from tests.support.eventually import eventually
from tests.support.prometheus import collected, samples
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD, MISSING
from workers import dispatch
from workers.cli import common, parts
from workers.errors import ApiError, InputError, PartUnreachable
from workers.exporter import families, source
from workers.exporter.server import FleetMetrics, serve
from workers.ledger import controls
from workers.model import Bounds, CallClass, State
from workers.pipeline import events as inbox
from workers.pipeline import steering
from workers.pipeline.index import index
from workers.resources import Resources

Scrape = Callable[[], dict[str, float]]


@pytest.fixture
def scrape(resources: Resources, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Scrape:
    """Asks everything anew each time; gives what Prometheus makes of it."""
    monkeypatch.setattr(source, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(source, "ONE_IN", 0)
    monkeypatch.setattr(source, "FAILURE_KEPT_SECONDS", 0.0)
    monkeypatch.setattr(dispatch.consumers, "__defaults__", (0.05,))  # no worker runs, so nobody answers
    fleet = FleetMetrics(resources)
    return lambda: samples(collected(fleet))


def of(found: dict[str, float], name: str, **labels: str) -> dict[str, float]:
    """The samples of that name and these labels that are not 0, by their last label's value."""
    wanted = {key: value for key, value in found.items() if key.partition("{")[0] == name and value}
    parts = {key: [one.split('"')[1] for one in key.partition("{")[2].split(",") if '"' in one] for key in wanted}
    return {parts[key][-1]: wanted[key] for key in wanted if all(value in parts[key] for value in labels.values())}


@pytest.mark.both_ledgers
class TestLedger:
    def test_recordings_are_counted_by_backfill_and_state_until_the_backfill_is_finished(
        self, desk: Desk, scrape: Scrape
    ) -> None:
        first = desk.submitted(GOOD[0])
        desk.ask(GOOD[1:4])
        desk.queued(GOOD[1])
        desk.ask(GOOD[4:5], backfill="other")
        steering.pause(desk.resources, "other")
        inbox.receive(
            desk.resources, desk.submissions(first)[0].callback_ref, completed(desk.now(first).transcription_id, "x")
        )
        before = scrape()
        index(desk.resources, first.id, by=BY)

        found = scrape()

        assert of(before, "retroscribe_inbox_events") == {"new": 1}
        assert before["retroscribe_oldest_event_seconds"] > 0
        assert of(found, "retroscribe_inbox_events") == {}
        assert of(found, "retroscribe_recordings", backfill="q3") == {"pending": 2, "queued": 1, "indexed": 1}
        assert of(found, "retroscribe_recordings", backfill="other") == {"pending": 1}
        assert found['retroscribe_backfill_state{backfill="other",state="paused"}'] == 1
        assert of(found, "retroscribe_open_recordings") == {"pending": 3, "queued": 1}
        assert found["retroscribe_ready_recordings"] == 3
        for one in desk.ask(GOOD[1:4]):
            desk.set(one, state=State.CANCELLED, due_at=None)
        assert not of(scrape(), "retroscribe_recordings", backfill="q3")

    def test_only_what_may_go_is_ready(self, desk: Desk, scrape: Scrape) -> None:
        hour = time.gmtime().tm_hour
        quiet = Bounds(only_between=f"{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00 UTC")
        desk.ask(["a1", "a2"], backfill="open")
        desk.ask(["b1", "b2", "b3"], backfill="quiet", bounds=quiet)
        desk.ask(["c1", "c2", "c3", "c4"], backfill="canary", bounds=Bounds(canary=1))

        assert scrape()["retroscribe_ready_recordings"] == 2

    def test_ages_are_those_of_the_oldest_in_each_state(self, desk: Desk, scrape: Scrape) -> None:
        now = time.time()
        desk.set(desk.ask(["p1", "p2"])[0], created_at=now - 500)
        done, lately, parked = desk.ask(["d1", "d2", "d3"], backfill="other")
        desk.set(done, state=State.COMPLETED, completed_at=now - 300)
        desk.set(lately, state=State.COMPLETED, completed_at=now - 5)
        desk.set(parked, state=State.PARKED, changed_at=now - 700, due_at=None)

        found = of(scrape(), "retroscribe_oldest_recording_seconds")

        assert {state: seconds // 100 for state, seconds in found.items()} == {
            "pending": 5,
            "completed": 3,
            "parked": 7,
        }

    def test_of_many_backfills_the_newest_are_named_and_all_are_counted(
        self, desk: Desk, scrape: Scrape, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(families, "SHOWN_BACKFILLS", 2)
        for number in range(4):
            desk.ask([f"m{number}"], backfill=f"b{number}")

        found = scrape()

        assert [of(found, "retroscribe_recordings", backfill=f"b{number}") for number in range(4)] == [
            {},
            {},
            {"pending": 1},
            {"pending": 1},
        ]
        assert of(found, "retroscribe_open_recordings") == {"pending": 4}

    def test_a_halt_is_told(self, desk: Desk, scrape: Scrape) -> None:
        halt = controls.Halt("ScopeMissing", "no", "submit", since=time.time(), next_probe_at=time.time())
        with desk.resources.ledger.write() as tx:
            controls.set_halt(tx, desk.resources.client_key, halt)

        assert scrape()["retroscribe_halted"] == 1


def test_calls_are_counted_for_the_fleet_by_class_and_status(
    desk: Desk, scrape: Scrape, sandbox: Sandbox, make_resources: MakeResources
) -> None:
    for media_id in GOOD[:3]:
        desk.submitted(media_id)
    other = make_resources()
    token = other.tokens.get()
    with suppress(ApiError):
        other.client.get_media(token, MISSING[0])
    for status in (429, 503):
        sandbox.faults(media_status=status)
        with suppress(ApiError):
            other.client.get_media(token, GOOD[0])
    for counted in (desk.resources, other):
        counted.calls.close()

    found = scrape()

    calls = {key: value for key, value in found.items() if key.startswith("retroscribe_api_calls_total{") and value}
    assert {key: value for key, value in calls.items() if "token" not in key} == {
        'retroscribe_api_calls_total{class="submit",status="202"}': 3,
        'retroscribe_api_calls_total{class="media",status="200"}': 3,
        'retroscribe_api_calls_total{class="media",status="404"}': 1,
        'retroscribe_api_calls_total{class="media",status="429"}': 1,
        'retroscribe_api_calls_total{class="media",status="503"}': 1,
    }
    assert found['retroscribe_api_call_seconds_count{class="media"}'] == 6
    assert found['retroscribe_api_call_seconds_bucket{class="media",le="+Inf"}'] == 6
    assert 0 < found['retroscribe_api_call_seconds_sum{class="media"}'] < 60
    assert found["retroscribe_token_age_seconds"] + found["retroscribe_token_left_seconds"] > 60


def test_calls_that_get_no_answer_are_told_from_those_that_never_left(
    make_resources: MakeResources, sandbox: Sandbox, broker: redis.Redis
) -> None:
    resources = make_resources()
    token = resources.tokens.get()
    sandbox.faults(submit_then="cut")
    request = Desk(resources, broker).ask(GOOD[:1])[0].request
    nowhere = make_resources(GENESYS_BASE_URL="http://127.0.0.1:1")
    for one in (resources, nowhere):
        with suppress(ApiError):
            one.client.submit(token, request, callback_uri=None, idempotency_key="k")
        one.calls.close()

    assert resources.calls.read()[CallClass.SUBMIT].by_status == {"no_answer": 1}
    assert nowhere.calls.read()[CallClass.SUBMIT].by_status == {"not_sent": 1}


def test_limits_gates_and_what_was_learned_are_told_by_class(desk: Desk, scrape: Scrape) -> None:
    limiter = desk.resources.limiter
    limiter.acquire(CallClass.SUBMIT)
    limiter.close_gate(CallClass.SUBMIT, 20, "429")

    found = scrape()

    assert found['retroscribe_limit_configured_per_second{class="submit"}'] == 1000
    assert 0 < found['retroscribe_limit_learned_per_second{class="submit"}'] < 1000
    assert 10 < found['retroscribe_gate_seconds{class="submit"}'] <= 20.1
    assert found['retroscribe_rejected_last_minute{class="submit"}'] == 1
    assert found['retroscribe_gate_seconds{class="media"}'] == 0
    assert 'retroscribe_limit_learned_per_second{class="media"}' not in found


def test_queues_are_told_with_what_waits_in_them_and_without_a_worker(desk: Desk, scrape: Scrape) -> None:
    for media_id in GOOD[:2]:
        dispatch.send_index(1, media_id)

    found = scrape()

    assert of(found, "retroscribe_queue_messages") == {"retroscribe.index": 2}
    assert found['retroscribe_queue_workers{queue="retroscribe.index"}'] == 0


@pytest.mark.both_ledgers
def test_without_a_ledger_the_rest_is_told(desk: Desk, scrape: Scrape) -> None:
    with desk.resources.ledger.write() as tx:
        tx.exec_driver_sql("ALTER TABLE events RENAME TO elsewhere")
    try:
        with capture_logs() as logs:
            found = [scrape(), scrape()][-1]
    finally:
        with desk.resources.ledger.write() as tx:
            tx.exec_driver_sql("ALTER TABLE elsewhere RENAME TO events")

    assert of(found, "retroscribe_source_up") == {"redis": 1, "broker": 1}
    assert found['retroscribe_source_up{source="ledger"}'] == 0
    assert "retroscribe_ready_recordings" not in found
    assert found['retroscribe_limit_configured_per_second{class="submit"}'] == 1000
    assert [line["event"] for line in logs] == ["metrics_source_away"]  # once, not with each scrape
    assert scrape()['retroscribe_source_up{source="ledger"}'] == 1


def test_a_source_that_hangs_holds_up_no_scrape_and_is_asked_once() -> None:
    asked = []

    def look() -> list[families.Metric]:
        asked.append(1)
        eventually(lambda: len(asked) > 1, 60, "the end of the test")
        return []

    hanging = source.Source("ledger", look)
    hanging.begin()
    hanging.begin()

    assert hanging.latest(0.05) is None
    assert asked == [1]
    asked.append(2)
    assert eventually(lambda: hanging.latest(1.0), what="its answer").metrics == []


def test_what_was_found_is_told_again_without_asking_until_it_is_due() -> None:
    asked = []
    quick = source.Source("ledger", lambda: asked.append(1) or [])
    for _ in range(3):
        quick.begin()
        assert quick.latest(5.0) is not None

    assert asked == [1]


def test_what_can_not_be_told_to_redis_is_given_up_and_said(
    make_resources: MakeResources,
) -> None:
    away = make_resources(RETROSCRIBE_REDIS_URL="redis://127.0.0.1:1")
    away.redis.connection_pool.connection_kwargs["retry"] = None
    with capture_logs() as logs:
        away.calls.note(CallClass.SUBMIT, "202", 0.1)
        away.calls.close()

    assert [(line["event"], line["calls"]) for line in logs] == [("call_counts_lost", 1)]


def test_an_exporter_that_can_not_know_whose_figures_to_show_says_what_to_set(make_resources: MakeResources) -> None:
    with pytest.raises(InputError, match=r"GENESYS_CLIENT_ID is not set.* the secret is not needed"):
        serve(make_resources(GENESYS_CLIENT_ID=""))


def test_an_exporter_without_metrics_port_says_what_to_set(make_resources: MakeResources) -> None:
    with pytest.raises(InputError, match=r"RETROSCRIBE_METRICS_PORT is 0"):
        serve(make_resources(RETROSCRIBE_METRICS_PORT="0"))


def test_where_there_is_no_ledger_an_exporter_makes_none(
    make_resources: MakeResources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = make_resources(RETROSCRIBE_HOME=str(tmp_path / "elsewhere"))
    monkeypatch.setattr(common, "get_resources", lambda: elsewhere)

    with pytest.raises(PartUnreachable, match="There is no ledger at"):
        parts.exporter()
    assert not (tmp_path / "elsewhere").exists()


def test_the_exporter_serves_until_it_is_told_to_stop_and_shows_no_secret(
    desk: Desk, environment: dict[str, str], tmp_path: Path
) -> None:
    desk.submitted(GOOD[0])
    port, log = free_port(), tmp_path / "exporter.log"
    address = f"http://127.0.0.1:{port}/metrics"

    def page() -> str:
        with suppress(OSError):
            return urllib.request.urlopen(address, timeout=20).read().decode()
        return ""

    with running_command(
        "exporter", folder=tmp_path, log=log, **environment, RETROSCRIBE_METRICS_PORT=str(port)
    ) as one:
        shown = eventually(page, 30, "the exporter's page")
        taken = run_command("exporter", folder=tmp_path, **environment, RETROSCRIBE_METRICS_PORT=str(port))
        one.terminate()
        assert one.wait(10) == 0

    found = samples(shown)
    assert of(found, "retroscribe_open_recordings") == {"transcribing": 1}
    assert of(found, "retroscribe_source_up") == {"ledger": 1, "redis": 1, "broker": 1}
    assert not [name for name in found if name.startswith("retroscribe_receiver_")]
    secrets = (desk.resources.tokens.get().value, *(environment[name] for name in environment if "SECRET" in name))
    recording = desk.ask(GOOD[:1])[0]
    for hidden in (*secrets, recording.media_id, recording.ref):
        assert hidden not in shown
        assert hidden not in log.read_text()
    assert (taken.returncode, taken.stderr.count("\n")) == (2, 1)
    assert f"can't listen on 127.0.0.1:{port}" in taken.stderr
    assert "RETROSCRIBE_METRICS_PORT" in taken.stderr
