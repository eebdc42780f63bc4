"""Planning a list: the same counts as `run`, a sample looked up through the real limiter, and nothing left behind."""

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.support.command import bare_environment, run_command
from tests.support.command import command as command_line
from tests.support.desk import Desk
from tests.support.desk_command import DeskCommand
from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import CATALOGUE, GOOD, IDS, MISSING, ODD
from workers.ledger import controls
from workers.ledger.tables import backfills, intake_rejects, recordings
from workers.ledger.tables import controls as controls_table
from workers.model import Bounds, State

PLANNED, USAGE, UNREACHABLE, INTERRUPTED = 0, 2, 4, 130
LIST = "media_id,languages\na,\nb,de-DE\na,EN-us\ntwo words,\nc,\nb,\n,en-US\nb,de-de\n"


@pytest.fixture
def calls(desk: Desk, tmp_path: Path) -> Path:
    """A list of which `c` was asked for before; two lines can't be used, two ask for what an earlier one does."""
    desk.ask(["c"], backfill="before")
    path = tmp_path / "calls.csv"
    path.write_text(LIST)
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """All recordings that the sandbox has, good and bad."""
    path = tmp_path / "all.csv"
    path.write_text("media_id\n" + "".join(f"{one}\n" for one in IDS))
    return path


def rows(desk: Desk) -> tuple[int, ...]:
    with desk.resources.ledger.read() as tx:
        tables = (backfills, recordings, intake_rejects, controls_table)
        return tuple(tx.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)


def counts(planned: dict[str, Any]) -> str:
    """In the words of `run`."""
    known = f", {planned['repeated']} known from an earlier run of this list" if planned["repeated"] else ""
    return f"{planned['new']} new, {planned['duplicates']} asked for before{known}, {planned['unusable']} unusable"


@pytest.mark.both_ledgers
def test_a_plan_says_what_run_then_does_and_after_it_that_nothing_is_new(
    desk: Desk, command: DeskCommand, calls: Path, sandbox: Sandbox
) -> None:
    before = rows(desk)

    planned = command("plan", str(calls), "--rejected", "unusable.csv", "--json")

    assert rows(desk) == before
    assert planned.code == PLANNED
    assert counts(planned.json) == "3 new, 3 asked for before, 2 unusable"
    assert f"calls: {counts(planned.json)}" in command("run", str(calls), "--no-follow").err
    unusable = calls.with_name("unusable.csv").read_text()
    assert unusable == calls.with_name("calls.rejected.csv").read_text()

    again = command("plan", str(calls), "--json").json

    assert counts(again) == "0 new, 0 asked for before, 6 known from an earlier run of this list, 2 unusable"
    assert f"calls: {counts(again)}" in command("run", str(calls), "--no-follow").err
    assert sandbox.stats()["submits"] == 0


def test_a_person_reads_what_is_new_what_is_wrong_and_when_it_would_be_done(
    desk: Desk, command: DeskCommand, calls: Path
) -> None:
    (other,) = desk.ask(["d"], backfill="done")
    desk.set(other, state=State.INDEXED, due_at=None)
    calls.write_text(LIST + "d,\n")

    said = " ".join(command("plan", str(calls), "--price-per-minute", "0.024").out.split())

    assert "calls plan: nothing is sent, and nothing is stored" in said
    assert "entries 9 new 3 in the list again 2" in said
    assert "asked for before 2 not paid again: 1 done, 1 under way" in said
    assert "unusable 2" in said
    assert "audio at most 1.5 h each lasts 1800 s at most" in said
    assert "cost at most 2.16" in said
    assert "API calls 7 3 media, 3 submit, 1 token" in said
    assert "submitted by" in said
    assert "Other backfills take turns with it, and the time has that in it: before (1)." in said
    assert "line 5: media_id: 'two words' is not an id" in said
    assert "line 8: media_id: missing, and needed" in said


def test_a_sample_of_everything_tells_the_very_hours_and_reasons(
    command: DeskCommand, catalogue: Path, sandbox: Sandbox
) -> None:
    seconds = sum(media.duration_seconds or 0 for one in GOOD if (media := CATALOGUE.media(one)))

    answer = command("plan", str(catalogue), "--probe", "1000", "--price-per-minute", "0.024", "--json")

    planned, probe = answer.json, answer.json["probe"]
    assert answer.code == PLANNED
    assert (probe["wanted"], probe["answered"], probe["usable"]) == (300, 300, len(GOOD))
    assert probe["rejected_reasons"]["media_not_found"] == len(MISSING)
    assert sum(probe["rejected_reasons"].values()) == len(MISSING) + len(ODD)
    assert planned["audio_hours"]["estimate"] == pytest.approx(seconds / 3600)
    assert planned["audio_hours"]["low"] == planned["audio_hours"]["high"]
    assert planned["cost"]["estimate"] == pytest.approx(seconds / 60 * 0.024)
    assert planned["calls"] == {"media": 300, "submit": len(GOOD), "status": 0, "token": 1}
    assert sandbox.stats()["media_lookups"] == 300
    assert sandbox.stats()["submits"] == 0


def test_a_part_of_it_gives_a_range(command: DeskCommand, catalogue: Path, sandbox: Sandbox) -> None:
    answer = command("plan", str(catalogue), "--probe", "40")

    assert answer.err == ""

    said = " ".join(answer.out.split())
    assert "looked up 40 of the new ones, chosen at random" in said
    assert "h to be transcribed, between" in said
    assert "(95 % sure)" in said
    assert sandbox.stats()["media_lookups"] == 40


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ({"media_status": 403}, "scope"),
        ({"media_status": 401}, "401"),
        ({"media_status": 503}, "503"),
        ({"media_status": 429, "retry_after": 120}, "429"),
    ],
    ids=["refused", "credentials", "outage", "far gate"],
)
def test_when_the_api_refuses_then_one_sentence_says_so_and_the_plan_goes_on_without(
    desk: Desk, command: DeskCommand, catalogue: Path, sandbox: Sandbox, faults: dict[str, Any], sentence: str
) -> None:
    sandbox.faults(**faults)

    answer = command("plan", str(catalogue), "--probe", "40", "--json")

    assert answer.code == UNREACHABLE
    assert answer.json["new"] == 300
    assert sentence in answer.json["probe"]["problem"]
    assert (answer.json["probe"]["answered"], answer.json["audio_hours"]) == (0, None)
    assert sandbox.stats()["media_lookups"] < 40
    with desk.resources.ledger.read() as tx:
        assert controls.halt(tx, desk.resources.client_key) is None
    assert not desk.resources.stopping.is_set()


def test_a_single_look_up_that_fails_is_left_out(command: DeskCommand, catalogue: Path, sandbox: Sandbox) -> None:
    sandbox.faults(media_status={"503": 0.02})

    answer = command("plan", str(catalogue), "--probe", "30", "--json")

    # By chance none fails, or so many that the API counts as away.
    assert answer.json["probe"]["answered"] + sandbox.stats()["faults_used"].get("media_status=503", 0) >= 25


def test_ctrl_c_ends_the_look_ups_and_the_plan_has_those_that_were_made(
    environment: dict[str, str], tmp_path: Path, catalogue: Path, sandbox: Sandbox
) -> None:
    slow = bare_environment(**environment | {"RETROSCRIBE_MEDIA_LIMIT": "5"})
    arguments = command_line("plan", str(catalogue), "--probe", "300", "--json")
    with subprocess.Popen(arguments, cwd=tmp_path, env=slow, stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: sandbox.stats()["media_lookups"] >= 3, 20, "some look-ups")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)

    probe = json.loads(out)["probe"]
    assert process.returncode == INTERRUPTED
    assert (probe["interrupted"], probe["problem"]) == (True, None)
    assert 1 <= probe["answered"] < 60


def test_without_a_home_all_is_new_nobody_gives_leave_to_look_up_and_no_home_is_made(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    (tmp_path / "calls.csv").write_text(LIST)

    answer = run_command("plan", "calls.csv", "--probe", "5", folder=tmp_path, **sandbox.env)

    assert answer.returncode == UNREACHABLE
    assert "There is no ledger yet, so nothing of it was asked for before." in answer.stdout
    assert "limit 10/s as configured, for Redis can't be asked" in answer.stdout
    assert f"no Retroscribe runs with the home {tmp_path}/.retroscribe" in answer.stdout
    assert [one.name for one in tmp_path.iterdir()] == ["calls.csv"]
    assert answer.stderr == ""


def test_credentials_are_needed_only_to_look_up(
    command: DeskCommand, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GENESYS_CLIENT_SECRET")

    assert command("plan", str(calls)).code == PLANNED
    looking = command("plan", str(calls), "--probe", "5")

    assert (looking.code, looking.out) == (USAGE, "")
    assert looking.err.startswith("retroscribe: GENESYS_CLIENT_SECRET is not set")


def test_what_run_would_refuse_the_plan_refuses_in_the_same_words(
    desk: Desk, command: DeskCommand, calls: Path
) -> None:
    command("run", str(calls), "--no-follow")
    other = [command(verb, str(calls), "--languages", "fr-FR") for verb in ("plan", "run")]
    command("cancel", "calls", "--yes")
    cancelled = [command(verb, str(calls)) for verb in ("plan", "run")]

    for planned, ran in (other, cancelled):
        assert (planned.code, planned.err) == (ran.code, ran.err) == (USAGE, planned.err)
    assert "exists with languages" in other[0].err
    assert "was cancelled and takes nothing in" in cancelled[0].err


def test_what_waits_already_is_in_the_time_and_a_pause_leaves_no_date(
    desk: Desk, command: DeskCommand, calls: Path
) -> None:
    desk.ask(["e", "f"], backfill="calls")
    running = command("plan", str(calls), "--json").json
    command("pause", "calls")
    paused = command("plan", str(calls), "--json").json
    live = command("plan", str(calls), "--name", "urgent", "--lane", "live", "--json").json

    assert (running["new"], running["waiting_before"]) == (3, 2)
    assert running["waiting_beside"] == [{"backfill": "before", "recordings": 1}]
    assert running["seconds"] == pytest.approx(6 / 990)
    assert running["submitted_by"] is not None
    assert (paused["submitted_by"], len(paused["obstacles"])) == (None, 1)
    assert live["seconds"] == pytest.approx(3 / 990)


def test_nothing_is_submitted_in_the_quiet_hours_that_are_named_or_that_the_backfill_has(
    desk: Desk, command: DeskCommand, calls: Path
) -> None:
    now = datetime.now(UTC)
    begins, ends = (f"{(now + timedelta(hours=one)):%H:%M}" for one in (5, 6))
    hours = f"{begins}-{ends} UTC"

    named = command("plan", str(calls), "--only-between", f"{begins}-{ends}", "--time-zone", "UTC", "--json").json
    desk.ask(["e"], backfill="calls", bounds=Bounds(only_between=hours))
    its_own = command("plan", str(calls), "--json").json

    assert (named["only_between"], its_own["only_between"]) == (hours, hours)
    assert named["seconds"] == pytest.approx(5 * 3600, abs=120)
    assert its_own["seconds"] == pytest.approx(5 * 3600, abs=120)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only-between", "20-6"], "--only-between '20-6' is no span of time"),
        (["--time-zone", "UTC"], "--time-zone UTC says whose clock --only-between means"),
        (["--price-per-minute", "-1"], "--price-per-minute is -1, but a price is 0 or more"),
        (["--rejected", "calls.csv"], "--rejected calls.csv is the list itself"),
        (["--rejected", "no/where.csv"], "can't be written"),
        (["--probe", "20000"], "--probe"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(
    command: DeskCommand, calls: Path, arguments: list[str], sentence: str
) -> None:
    answer = command("plan", "calls.csv", *arguments)

    assert answer.code == USAGE
    assert sentence in answer.err
    assert calls.read_text() == LIST
