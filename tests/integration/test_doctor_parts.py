"""What `retroscribe doctor` finds in each part, good and bad, over both ledgers where the ledger is concerned."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
import redis
from sqlalchemy import update

from tests.conftest import MakeResources, free_port
from tests.support.desk import Desk, completed
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD
from tests.support.scripted_server import ScriptedServer, reply
from tests.support.search import document
from tests.support.valkey import Valkey
from workers.cli.doctor import _ask
from workers.errors import CredentialsRejected, SearchUnavailable
from workers.ledger import events, leases, tables, transcripts
from workers.ledger.engine import Ledger
from workers.model import CallClass, State, Transcript
from workers.pipeline import checkup_api, checkup_fleet, checkup_ledger, checkup_versions
from workers.pipeline.checkup import check_redis
from workers.pipeline.checkup_http import Reply
from workers.pipeline.events import receive
from workers.resources import Resources

EVERYWHERE = "0.0.0.0"  # noqa: S104 told, not bound


# The API


def test_a_wrong_secret_shows_although_the_fleet_has_a_token(make_resources: MakeResources, sandbox: Sandbox) -> None:
    before = sandbox.totals()["tokens_issued"]

    assert checkup_api.check_token(make_resources()).state == "ok"
    assert sandbox.totals()["tokens_issued"] == before + 1
    with pytest.raises(CredentialsRejected, match="GENESYS_CLIENT_SECRET"):
        checkup_api.check_token(make_resources(GENESYS_CLIENT_SECRET="hunter2"))


def test_without_a_permit_the_credentials_are_said_to_be_untried(
    make_resources: MakeResources, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources.tokens.get()
    monkeypatch.setattr(checkup_api, "PERMIT_SECONDS", 0.1)
    resources.limiter.close_gate(CallClass.TOKEN, 30, "429")

    found = checkup_api.check_token(make_resources())

    assert found.state == "warning"
    assert found.found.startswith("not tried")


def test_scopes_that_are_not_asked_for_or_not_granted_are_named(
    make_resources: MakeResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = make_resources()
    assert checkup_api.check_scopes(resources).state == "ok"
    with ScriptedServer(
        reply(200, {"access_token": "t", "scope": "media:media:read"}),
        reply(200, {"access_token": "t", "scope": "media:media:read media:transcription:write"}),
    ) as server:
        granted = make_resources(GENESYS_TOKEN_URL=f"{server.url}/token")
        granted.client.fetch_token()
        lacks = checkup_api.check_scopes(granted)
        granted.client.fetch_token()
        both = checkup_api.check_scopes(granted)
    unasked = checkup_api.check_scopes(make_resources(GENESYS_SCOPES="media:media:read"))

    assert lacks.is_wrong
    assert "does not grant media:transcription:write" in lacks.found
    assert (both.state, both.found) == ("ok", "media:media:read and media:transcription:write are granted")
    assert unasked.is_wrong
    assert unasked.found == "media:transcription:write is not asked for"


# Redis and the ledger


@pytest.mark.parametrize(("times", "state"), [(10, "ok"), (1.1, "warning"), (0.5, "wrong")])
def test_a_redis_whose_memory_fills_up_is_told_by_how_full_it_is(
    make_resources: MakeResources, tmp_path: Path, times: float, state: str
) -> None:
    server = Valkey(tmp_path).start()
    with server.client() as client:
        client.config_set("appendonly", "yes")
        client.config_set("maxmemory", int(times * client.info("memory")["used_memory"]))

    found = check_redis(make_resources(RETROSCRIBE_REDIS_URL=server.url))

    server.close()
    assert found.state == state, found
    assert " of " in found.found


@pytest.mark.both_ledgers
def test_the_ledger_says_whether_it_is_durable(resources: Resources) -> None:
    found = checkup_ledger.check_durability(resources)

    if resources.settings.shared_ledger:  # the tests' server is none to keep anything in
        assert found.state == "warning"
        assert "(fsync off, full_page_writes off)" in found.found
        assert "set fsync and full_page_writes to on" in str(found.fix)
    else:
        assert found.state == "ok"
        assert found.found.endswith("(journal_mode wal, synchronous normal)")


@pytest.mark.parametrize(
    ("version", "settings", "state", "said"),
    [
        (160003, {"fsync": "on", "synchronous_commit": "local"}, "ok", "keeps"),
        (130009, {"fsync": "on"}, "warning", "older than any"),
        (160003, {"fsync": "on", "synchronous_commit": "off"}, "warning", "synchronous_commit off"),
        (0, {"journal_mode": "delete", "synchronous": "full"}, "warning", "journal_mode delete"),
        (0, {"journal_mode": "wal", "synchronous": "off"}, "warning", "synchronous off"),
    ],
)
def test_durability_is_judged_by_each_setting(version: int, settings: Mapping[str, str], state: str, said: str) -> None:
    found = checkup_ledger.judge_durability("it", version, settings)

    assert found.state == state
    assert said in found.found


@pytest.mark.parametrize(("name", "state"), [("LITTLE_SPACE", "warning"), ("NO_SPACE", "wrong")])
def test_a_full_disk_is_told_by_how_full_it_is(
    resources: Resources, monkeypatch: pytest.MonkeyPatch, name: str, state: str
) -> None:
    assert checkup_ledger.check_disk(resources).state == "ok"

    monkeypatch.setattr(checkup_ledger, name, 10**18)

    assert checkup_ledger.check_disk(resources).state == state


@pytest.mark.both_ledgers
def test_clocks_that_agree_are_fine(resources: Resources) -> None:
    found = checkup_ledger.check_clocks(resources, _ask)

    assert found.state == "ok"
    servers = "Redis, the database and the API" if resources.settings.shared_ledger else "Redis and the API"
    assert found.found == f"this machine's is within 1 s of {servers}"


@pytest.mark.both_ledgers
@pytest.mark.parametrize(("behind", "state"), [(10, "warning"), (-10, "warning"), (65, "wrong"), (-3600, "wrong")])
def test_a_clock_that_is_off_is_worse_the_more_it_is(
    resources: Resources, monkeypatch: pytest.MonkeyPatch, behind: float, state: str
) -> None:
    real = time.time
    monkeypatch.setattr(checkup_ledger.time, "time", lambda: real() - behind)

    found = checkup_ledger.check_clocks(resources, lambda *_: Reply(404))

    assert found.state == state
    assert ("behind" if behind > 0 else "ahead of") + " Redis" in found.found
    assert ("the database" in found.found) == resources.settings.shared_ledger


def test_an_api_with_another_clock_is_a_warning_only(resources: Resources) -> None:
    an_hour_ago = format_datetime(datetime.fromtimestamp(time.time() - 3600, UTC), usegmt=True)

    found = checkup_ledger.check_clocks(resources, lambda *_: Reply(404, {"date": an_hour_ago}, at=time.time()))

    assert found.state == "warning"
    assert "ahead of the API" in found.found


@pytest.mark.both_ledgers
def test_an_event_that_nobody_applies_shows_after_a_minute(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (submission,) = desk.submissions(desk.submitted(GOOD[0]))
    receive(desk.resources, submission.callback_ref, completed(str(submission.transcription_id), "hello"))

    assert checkup_ledger.check_inbox(desk.resources).state == "ok"
    monkeypatch.setattr(checkup_ledger, "EVENT_IS_OLD_SECONDS", -1)
    found = checkup_ledger.check_inbox(desk.resources)

    assert found.state == "warning"
    assert "the events of one recording for" in found.found


def test_an_acceptance_that_was_set_aside_shows(resources: Resources) -> None:
    spool = resources.settings.home / "spool"
    spool.mkdir()
    (spool / "one.unusable").touch()

    assert "know: 1" in checkup_ledger.check_inbox(resources).found


# Beat, Flower, versions


@pytest.mark.both_ledgers
def test_beat_is_alive_by_what_the_sweep_left_in_the_ledger(
    ledger: Ledger, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup_fleet, "PATIENCE_SECONDS", 0)

    assert checkup_fleet.check_beat(resources).found == "no sweep has ever run, so nothing is handed out"
    with ledger.write() as tx:
        leases.take(tx, "sweep", "a worker", 60)
    assert checkup_fleet.check_beat(resources).state == "ok"
    with ledger.write() as tx:
        leases.release(tx, "sweep", "a worker")
    assert checkup_fleet.check_beat(resources).state == "ok"
    with ledger.write() as tx:
        tx.execute(update(tables.leases).values(expires_at=tables.leases.c.expires_at - 100))
    found = checkup_fleet.check_beat(resources)
    assert found.is_wrong
    assert found.found.startswith("the last sweep ended 10")


def test_on_a_machine_without_the_index_the_doctor_says_where_to_search(desk: Desk) -> None:
    (recording,) = desk.ask(["m-1"])
    with desk.resources.ledger.write() as tx:
        transcripts.keep(tx, recording.id, Transcript("t-1", ()), events.pack(b"{}"))
    desk.set(recording, state=State.INDEXED, due_at=None)

    found = checkup_fleet.check_search(desk.resources)

    path = desk.resources.settings.search_path
    assert (found.state, found.found) == ("warning", f"{path} is not there, but transcripts have been indexed")
    assert "`retroscribe reindex` there" in str(found.fix)


def test_the_search_index_is_told_by_its_size_and_a_foreign_file_is_refused(resources: Resources) -> None:
    assert "not there yet" in checkup_fleet.check_search(resources).found
    resources.index.upsert([document("one", "hello")])

    found = checkup_fleet.check_search(resources)

    assert found.state == "ok"
    assert re.search(r"holds 1 documents, \d\.\d MB, words cut by version \d", found.found)
    path = resources.settings.search_path
    assert path is not None
    resources.index.close()
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(SearchUnavailable, match="can't be used"):
        checkup_fleet.check_search(Resources(resources.settings))


@pytest.mark.parametrize(
    ("settings", "status", "state", "said"),
    [
        ({}, 200, "ok", "answers"),
        ({}, 500, "warning", "HTTP 500"),
        ({"AUTH": "me:password"}, 401, "ok", "asks for the password"),
        ({"AUTH": "me:password"}, 200, "warning", "without the password"),
        ({"HOST": EVERYWHERE, "AUTH": "me:password"}, 401, "ok", "http://127.0.0.1:"),
        ({"HOST": EVERYWHERE}, 200, "warning", "refuses to start"),
    ],
)
def test_flower_is_looked_at_as_a_stranger_sees_it(
    make_resources: MakeResources, settings: dict[str, str], status: int, state: str, said: str
) -> None:
    names = {"AUTH": "RETROSCRIBE_FLOWER_BASIC_AUTH", "HOST": "RETROSCRIBE_FLOWER_HOST"}
    with ScriptedServer(reply(status)) as server:
        given = {names[name]: value for name, value in settings.items()}
        found = checkup_fleet.check_flower(make_resources(RETROSCRIBE_FLOWER_PORT=str(server.port), **given), _ask)

    assert found.state == state
    assert said in found.found


def test_flower_may_be_away_but_not_of_an_embedded_stack(
    make_resources: MakeResources, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = make_resources(RETROSCRIBE_FLOWER_PORT=str(free_port()))
    assert checkup_fleet.check_flower(away, _ask).state == "ok"

    embedded = Resources(away.settings.model_copy(update={"redis_url": None}))

    assert checkup_fleet.check_flower(embedded, _ask).state == "warning"


def test_versions_that_are_not_asked_for_are_named() -> None:
    wanted = ["redis>=99", "no-such-package", "celery>=5", "not-there>1; extra == 'more'", "x; python_version < '3'"]

    assert list(checkup_versions.outside_of(wanted)) == [
        f"redis is {redis.__version__}, >=99 is asked for",
        "no-such-package is not installed",
    ]


def test_a_version_outside_or_a_kombu_that_is_not_cured_is_a_warning(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkup_versions.check_versions(resources.settings).state == "ok"

    monkeypatch.setattr("workers.kombu_fix.AFFECTED", "5.6.")
    uncured = checkup_versions.check_versions(resources.settings)
    monkeypatch.setattr(checkup_versions, "requires", lambda _: ["celery<5"])
    outside = checkup_versions.check_versions(resources.settings)
    monkeypatch.setattr(checkup_versions, "OLDEST_SQLITE", (99,))
    too_old = checkup_versions.check_versions(resources.settings)

    assert (uncured.state, "kombu a worker may end" in uncured.found) == ("warning", True)
    assert (outside.state, "<5 is asked for" in outside.found) == ("warning", True)
    assert (too_old.state, "too old for the ledger" in too_old.found) == ("wrong", True)
