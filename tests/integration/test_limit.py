"""Limits set at run time, and what the API tells of its own: through the command, the pump and real calls."""

from collections.abc import Iterator

import pytest
import redis

from tests.conftest import MakeResources
from tests.support.desk import BY, Desk
from tests.support.desk_command import DeskCommand
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from workers.errors import ApiRateLimited
from workers.model import CallClass
from workers.pipeline.pump import pump
from workers.pipeline.submit import submit

SUBMIT = CallClass.SUBMIT


def configured(desk: Desk, call_class: CallClass = SUBMIT) -> float:
    return desk.resources.limiter.snapshot(call_class).configured


def test_a_limit_is_in_force_at_once_until_it_is_reset(desk: Desk, command: DeskCommand) -> None:
    said = command("limit", "submit", "20")
    assert (said.code, configured(desk), configured(desk, CallClass.MEDIA)) == (0, 20, 2000)
    assert said.out == "submit: 20/s (the setting is 1000/s), at once, on the whole fleet.\n"

    said = command("limit", "submit", "--reset")
    assert (said.code, configured(desk)) == (0, 1000)
    assert "the setting's 1000/s again" in said.out


def test_a_limit_survives_a_wiped_redis_by_the_next_pump(desk: Desk, command: DeskCommand, broker: redis.Redis) -> None:
    command("limit", "submit", "20")
    command("limit", "media", "7")
    keys = broker.keys("retroscribe:limit:*")
    broker.delete(*keys)
    assert configured(desk) == 1000

    pump(desk.resources, by=BY)

    assert (configured(desk), configured(desk, CallClass.MEDIA)) == (20, 7)
    command("limit", "submit", "--reset")
    pump(desk.resources, by=BY)
    assert (configured(desk), configured(desk, CallClass.MEDIA)) == (1000, 7)


def test_without_redis_a_limit_is_kept_for_the_pump(
    make_resources: MakeResources,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broker: redis.Redis,
) -> None:
    away = make_resources(RETROSCRIBE_REDIS_URL="redis://127.0.0.1:1")
    away.redis.connection_pool.connection_kwargs["retry"] = None

    said = DeskCommand(Desk(away, broker), monkeypatch, capsys)("limit", "submit", "20")

    assert said.code == 0
    assert said.out == ("submit: 20/s (the setting is 1000/s), as soon as Redis answers and a control worker runs.\n")


def test_limits_are_shown_to_people_and_machines(desk: Desk, command: DeskCommand) -> None:
    desk.resources.limiter.close_gate(SUBMIT, 40, "429")

    table = command("limit").out
    (found,) = command("limit", "submit", "--json").json

    assert [line.split()[0] for line in table.splitlines()] == ["calls", "submit", "media", "status", "token"]
    assert "closed for 40 s (429)" in table
    assert found.pop("gate_seconds") == pytest.approx(40, abs=1)
    assert found == {
        "class": "submit",
        "setting_per_second": 1000,
        "configured_per_second": 1000,
        "learned_per_second": pytest.approx(396),
        "others_per_second": None,
        "rate_per_second": pytest.approx(384.12),
        "granted_per_second": 0,
        "gate_reason": "429",
        "rejected_last_minute": 1,
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["submit", "0"], "RATE is 0, but must be above 0"),
        (["submit", "-3"], "No such option: -3"),
        (["submit", "10001"], "at most 10000 calls per second"),
        (["submit", "nan"], "RATE is nan"),
        (["submit", "fast"], "Invalid value for '[RATE]'"),
        (["submit", "5", "--reset"], "exclude each other"),
        (["--reset"], "Say whose limit"),
        (["calls", "5"], "'calls' is not one of"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_with_a_sentence(
    command: DeskCommand, desk: Desk, arguments: list[str], problem: str
) -> None:
    said = command("limit", *arguments)

    assert said.code == 2
    assert problem in said.err
    assert configured(desk) == 1000


def test_a_class_on_the_submit_bucket_has_no_limit_of_its_own(
    make_resources: MakeResources,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broker: redis.Redis,
) -> None:
    shared = make_resources(RETROSCRIBE_LIMIT_BUCKETS="shared")

    said = DeskCommand(Desk(shared, broker), monkeypatch, capsys)("limit", "media", "5")

    assert said.code == 2
    assert "change that one with `retroscribe limit submit RATE`" in said.err


def test_status_says_what_was_learned(desk: Desk, command: DeskCommand) -> None:
    desk.ask(["m-1"])
    desk.resources.limiter.close_gate(SUBMIT, 12, "429")

    told, found = command("status", "q3").out, command("status", "q3", "--json").json["limit"]

    assert "limit 1000/s, learned 396.0/s, now" in told
    assert "1 429s in the last minute" in told
    assert "submit calls wait 12 s (429)" in told
    assert (found["learned_per_second"], found["others_per_second"]) == (pytest.approx(396), None)


@pytest.fixture
def telling() -> Iterator[Sandbox]:
    """An API that counts a minute's calls, and tells."""
    with Sandbox(rate=1, limiter="minute") as server:
        yield server


def test_what_the_api_tells_of_its_window_binds_the_rate_and_is_shown(
    make_resources: MakeResources, telling: Sandbox, broker: redis.Redis, sandbox: Sandbox
) -> None:
    resources = make_resources(**telling.env)
    desk = Desk(resources, broker)
    for media_id in GOOD[:3]:
        ready = desk.validated(media_id)
        assert submit(resources, ready.id, ready.epoch, by=BY)

    stands = resources.limiter.snapshot(SUBMIT)

    # 60 calls a minute, of which 3 were made: about one a second is left, whatever is configured.
    assert 0.5 <= stands.rate <= 1.1
    assert stands.others == pytest.approx(0, abs=0.5)


def test_a_429_of_a_real_call_lowers_the_rate_for_all(desk: Desk, sandbox: Sandbox) -> None:
    sandbox.faults(submit_status=429, retry_after=17, count=1)
    before = desk.resources.limiter.snapshot(SUBMIT).rate
    ready = desk.validated(GOOD[0])

    with pytest.raises(ApiRateLimited):
        submit(desk.resources, ready.id, ready.epoch, by=BY)

    stands = desk.resources.limiter.snapshot(SUBMIT)
    assert stands.rate < before
    assert stands.learned == pytest.approx(0.8 * before, rel=0.02)
    assert stands.gate_seconds == pytest.approx(17, abs=2)
