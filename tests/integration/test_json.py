"""The JSON forms are those that docs/json.md names, field by field, in both directions."""

import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.command import run_command
from tests.support.desk import BY, Desk, completed, failed, request
from tests.support.desk_command import DeskCommand
from tests.support.sandbox_calls import GOOD
from tests.support.search import document
from workers.cli.main import app
from workers.ledger import backfills, controls, submissions
from workers.ledger.tables import backfills as backfills_table
from workers.model import Bounds, CallClass, Lane, Reason, Recording, State
from workers.pipeline.events import receive
from workers.pipeline.index import index
from workers.search.sqlite import SqliteIndex

DOCS = Path(__file__).resolve().parents[2] / "docs" / "json.md"


def documented() -> dict[str, set[str]]:
    """The fields of each section, by the command in its heading without arguments in capitals."""
    sections: dict[str, set[str]] = {}
    for heading, text in re.findall(
        r"^## `retroscribe ([^`]+) --json`\n(.*?)(?=^## |\Z)", DOCS.read_text(), re.DOTALL | re.MULTILINE
    ):
        name = " ".join(word for word in heading.split() if word.islower())
        sections[name] = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    return sections


def fields(value: object, known: set[str], path: str = "") -> Iterator[str]:
    """Where there are values, in the page's notation; null says nothing of what an object there would hold."""
    if isinstance(value, dict) and f"{path}{{}}" in known:
        yield f"{path}{{}}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from fields(inner, known, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner, known, f"{path}[]")
    elif value is not None or not any(one.startswith(f"{path}.") for one in known):
        yield path


def assert_as_documented(name: str, printed: Iterable[Any]) -> None:
    known = documented()[name]
    found = {field for one in printed for field in fields(one, known)}
    assert found == known


@pytest.fixture
def indexed(desk: Desk) -> Recording:
    """Something was said in it, and it can be found."""
    one = desk.submitted(GOOD[0])
    receive(desk.resources, desk.submissions(one)[0].callback_ref, completed(str(one.transcription_id), "hello"))
    index(desk.resources, one.id, by=BY)
    return desk.now(one)


@pytest.fixture
def parked(desk: Desk) -> Recording:
    """Nobody knows whether it was accepted, but for another acceptance and an event."""
    (one,) = desk.ask(["m-parked"])
    with desk.resources.ledger.write() as tx:
        sent = submissions.open_next(tx, one.id, callback_ref="f" * 32, epoch=1, request_digest=bytes(32))
        sent = submissions.settle(tx, sent, submissions.UNKNOWN)
        submissions.note_double(tx, sent, "t-other")
    return desk.set(one, state=State.PARKED, reason=Reason.OUTCOME_UNKNOWN, due_at=None)


def test_every_command_with_json_has_its_section() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    with_json = {name for name, one in commands.items() if any("--json" in option.opts for option in one.params)}

    assert {name.split()[0] for name in documented()} == with_json


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("indexed", "parked")
def test_status(desk: Desk, command: DeskCommand) -> None:
    held = {"max_recordings": 1, "max_audio_seconds": 60.0, "only_between": "00:00-00:01 UTC", "canary": 1}
    desk.ask(["m-parked", "m-3", "m-4"], backfill="q4", bounds=Bounds(**held))
    for media_id, state in (("m-1", State.FAILED), ("m-2", State.REJECTED)):
        (one,) = desk.ask([media_id])
        desk.set(one, state=state, reason=Reason.REQUEST_REFUSED, due_at=None)
    desk.resources.limiter.close_gate(CallClass.SUBMIT, 60, "429")
    with desk.resources.ledger.write() as tx:
        halt = controls.Halt("ScopeMissing", "no scope", CallClass.SUBMIT, time.time(), time.time())
        controls.set_halt(tx, desk.resources.client_key, halt)

    all_of_them = command("status", "--json").json

    assert_as_documented("status", all_of_them)
    assert [one["backfill"] for one in all_of_them] == ["q3", "q4"]
    assert_as_documented("status", [command("status", "q3", "--json").json, command("status", "q4", "--json").json])


def test_plan(desk: Desk, command: DeskCommand, tmp_path: Path) -> None:
    desk.ask(["m-1"])
    calls = tmp_path / "calls.csv"
    calls.write_text("media_id\nm-1\na/b\n" + "".join(f"{one}\n" for one in GOOD[:12]))
    planned = command("plan", str(calls), "--probe", "11", "--price-per-minute", "0.024", "--json")
    command("run", str(calls), "--no-follow")
    command("pause", "calls")

    assert_as_documented("plan", [planned.json, command("plan", str(calls), "--json").json])


def test_list(desk: Desk, command: DeskCommand) -> None:
    desk.ask(["m-1", "m-1"])
    with desk.resources.ledger.write() as tx:
        backfills.refuse(tx, backfills.ensure(tx, "q3", {}), [backfills.Refused(9, "a/b", "not an id")])

    assert_as_documented("list", lines(command("list", "q3", "--json").out))
    assert_as_documented("list --unusable", lines(command("list", "q3", "--unusable", "--json").out))


@pytest.mark.usefixtures("indexed")
def test_export(command: DeskCommand) -> None:
    assert_as_documented("export", lines(command("export", "q3", "--json").out))


def test_explain(desk: Desk, command: DeskCommand, parked: Recording, indexed: Recording) -> None:
    desk.ask(["m-1"], backfill="q4")
    with desk.resources.ledger.write() as tx:
        tx.execute(backfills_table.update().where(backfills_table.c.name == "q4").values(state="paused"))

    assert_as_documented(
        "explain", [command("explain", one, "--json").json for one in (parked.ref, indexed.ref, "m-1")]
    )


def test_pause_resume_and_cancel(desk: Desk, command: DeskCommand) -> None:
    desk.ask(["m-1"])

    for steer in (["pause", "q3"], ["resume", "q3"], ["cancel", "q3", "--yes"]):
        assert_as_documented(steer[0], [command(*steer, "--json").json])


def test_events(desk: Desk, command: DeskCommand) -> None:
    receive(desk.resources, "0" * 32, failed("t-stranger", "no"))

    assert_as_documented("events", command("events", "--json").json)


def test_retry(desk: Desk, command: DeskCommand) -> None:
    (one,) = desk.ask(["m-1"])
    desk.set(one, state=State.FAILED, due_at=None)

    assert_as_documented("retry", [command("retry", "q3", "--json").json])


def test_resolve(command: DeskCommand, parked: Recording) -> None:
    assert_as_documented("resolve", [command("resolve", parked.ref, "--drop", "--json").json])


def test_show(desk: Desk, command: DeskCommand, indexed: Recording) -> None:
    with desk.resources.ledger.write() as tx:
        wish = request(indexed.media_id, languages=("es-ES",))
        backfills.add(tx, backfills.ensure(tx, "q4", {}), Lane.BACKFILL, [backfills.Asked(1, wish)], by=BY)

    assert_as_documented("show", [command("show", indexed.media_id, "--json").json])


def test_forget(command: DeskCommand, indexed: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteIndex, "purge", lambda _: "A server keeps it for a while.")

    assert_as_documented("forget", [command("forget", indexed.media_id, "nobody", "--yes", "--json").json])


def test_reconcile(desk: Desk, command: DeskCommand) -> None:
    stale = replace(document("old", "hello", media_id="m-2"), version=-1)
    for media_id, documents in (("m-1", []), ("m-2", [stale]), ("m-3", [document("stranger")])):
        (one,) = desk.ask([media_id])
        desk.set(one, state=State.INDEXED, due_at=None)
        desk.resources.index.upsert([replace(found, ref=one.ref) if found is stale else found for found in documents])

    assert_as_documented("reconcile", [command("reconcile", "--json").json])


def test_limit(command: DeskCommand) -> None:
    assert_as_documented("limit", command("limit", "--json").json)


@pytest.mark.usefixtures("indexed")
def test_search(command: DeskCommand) -> None:
    assert_as_documented("search", [command("search", "hello", "--json").json])


def test_doctor(environment: dict[str, str], tmp_path: Path) -> None:
    answer = run_command("doctor", "--json", folder=tmp_path, **environment)

    assert_as_documented("doctor", [json.loads(answer.stdout)])
