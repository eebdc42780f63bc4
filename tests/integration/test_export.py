"""What leaves the ledger as transcripts: every one that a backfill asked for, once, and never a forgotten one."""

import json
import stat
from pathlib import Path

import pytest

from tests.support.command import run_command
from tests.support.desk import Desk
from tests.support.desk_command import DeskCommand
from workers.genesys.events import parse_event
from workers.ledger import events, tables, transcripts
from workers.model import Recording, State

OK, USAGE = 0, 2

SAID = {
    "transcriptionId": "t-1",
    "status": "completed",
    "startedAt": "2026-11-01T10:00:00Z",
    "completedAt": "2026-11-01T10:00:02Z",
    "result": {
        "redacted": True,
        "transcripts": [
            {
                "text": "Grüß dich",
                "confidence": 0.5,
                "speaker": "agent",
                "startMs": 61500,
                "endMs": 63000,
                "language": "de-DE",
            },
            {"text": "hello\x1b[2J there", "confidence": 1.0},
        ],
    },
}


def transcribed(desk: Desk, *media_ids: str, backfill: str = "q3", state: State = State.INDEXED) -> list[Recording]:
    """Recordings with a transcript of theirs in the ledger."""
    found = []
    for one in desk.ask(media_ids, backfill=backfill):
        data = {**SAID, "transcriptionId": f"t-{one.media_id}"}
        payload = json.dumps({"eventType": "transcription.completed", "data": data}).encode()
        transcript = parse_event(payload).transcript
        assert transcript is not None
        with desk.resources.ledger.write() as tx:
            transcripts.keep(tx, one.id, transcript, events.pack(payload))
        found.append(desk.set(one, state=state, transcription_id=f"t-{one.media_id}", duration_seconds=120.5, due_at=9))
    return found


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.both_ledgers
def test_each_recording_is_a_line_with_what_was_said_by_whom_and_when(desk: Desk, command: DeskCommand) -> None:
    (one,) = transcribed(desk, "m-1")

    answer = command("export", "q3")

    assert (answer.code, answer.err) == (OK, "1 transcript written.\n")
    assert lines(answer.out) == [
        {
            "media_id": "m-1",
            "ref": one.ref,
            "transcription_id": "t-m-1",
            "backfill": "q3",
            "languages": ["de-DE"],
            "duration_seconds": 120.5,
            "confidence": 0.75,
            "redacted": True,
            "started_at": "2026-11-01T10:00:00+00:00",
            "completed_at": "2026-11-01T10:00:02+00:00",
            "segments": [
                {
                    "text": "Grüß dich",
                    "confidence": 0.5,
                    "speaker": "agent",
                    "start": 61.5,
                    "end": 63.0,
                    "language": "de-DE",
                },
                {
                    "text": "hello\x1b[2J there",
                    "confidence": 1.0,
                    "speaker": None,
                    "start": None,
                    "end": None,
                    "language": None,
                },
            ],
        }
    ]
    assert command("export", "q3", "--json").out == answer.out


@pytest.mark.both_ledgers
def test_a_shared_transcript_comes_once_and_after_the_own_ones(desk: Desk, command: DeskCommand) -> None:
    transcribed(desk, "m-1", "m-2", backfill="q2")
    transcribed(desk, "m-3", "m-4", backfill="q3", state=State.COMPLETED)
    desk.ask([*["m-5"] * 5, "m-2", "m-4", "m-2", "m-3"])

    found = lines(command("export", "q3").out)

    assert [(line["media_id"], line["backfill"]) for line in found] == [("m-3", "q3"), ("m-4", "q3"), ("m-2", "q2")]


@pytest.mark.both_ledgers
def test_only_what_has_a_transcript_and_is_not_forgotten_is_exported(desk: Desk, command: DeskCommand) -> None:
    transcribed(desk, "m-1")
    forgotten, *_ = transcribed(desk, "m-2", "m-3")
    desk.set(forgotten, state=State.FORGOTTEN)
    desk.ask(["m-9"] * 9)

    assert [line["media_id"] for line in lines(command("export", "q3").out)] == ["m-1", "m-3"]


def test_more_than_are_read_together_come_all_and_in_order(desk: Desk, command: DeskCommand) -> None:
    ids = [f"m-{number}" for number in range(45)]
    transcribed(desk, *ids)

    assert [line["media_id"] for line in lines(command("export", "q3").out)] == ids


def test_as_text_each_segment_is_a_line_that_steers_no_terminal(desk: Desk, command: DeskCommand) -> None:
    transcribed(desk, "m-1", "m-2")

    text = command("export", "q3", "--text").out

    assert text == "".join(
        f"{name} (t-{name}, de-DE, 2 min 0 s)\n[1:01] agent: Grüß dich\nhello\ufffd[2J there\n\n"
        for name in ("m-1", "m-2")
    )


class TestOutput:
    def test_the_file_is_complete_private_and_in_place_of_an_older_one(
        self, desk: Desk, command: DeskCommand, tmp_path: Path
    ) -> None:
        transcribed(desk, "m-1")
        target = tmp_path / "q3.jsonl"
        target.write_text("older")
        target.chmod(0o644)

        answer = command("export", "q3", "--output", str(target))

        assert (answer.code, answer.out) == (OK, "")
        assert answer.err == f"1 transcript written to {target}.\n"
        assert [line["media_id"] for line in lines(target.read_text())] == ["m-1"]
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".export")] == []

    def test_one_that_did_not_get_to_its_end_leaves_the_older_file(
        self, desk: Desk, command: DeskCommand, tmp_path: Path
    ) -> None:
        transcribed(desk, "m-1")
        with desk.resources.ledger.write() as tx:
            tx.execute(tables.transcripts.update().values(payload=b"damaged"))
        target = tmp_path / "q3.jsonl"
        target.write_text("older")

        assert command("export", "q3", "--output", str(target)).code != OK

        assert target.read_text() == "older"
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".export")] == []

    @pytest.mark.parametrize(
        ("target", "sentence"),
        [("/dev/null", "is no file"), (".", "is no file"), ("no/such/folder/x", "can't be written (No such file")],
    )
    def test_what_can_not_be_a_file_is_refused(
        self, desk: Desk, command: DeskCommand, target: str, sentence: str
    ) -> None:
        transcribed(desk, "m-1")

        answer = command("export", "q3", "--output", target)

        assert (answer.code, answer.out, sentence in answer.err) == (USAGE, "", True), answer


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["nope"], "There is no backfill 'nope'"), (["q3", "--json", "--text"], "exclude each other")],
)
def test_wrong_use_is_one_sentence(desk: Desk, command: DeskCommand, arguments: list[str], sentence: str) -> None:
    desk.ask(["m-1"])

    answer = command("export", *arguments)

    assert (answer.code, answer.out, sentence in answer.err) == (USAGE, "", True)


def test_a_backfill_without_transcripts_says_so(desk: Desk, command: DeskCommand) -> None:
    desk.ask(["m-1"])

    answer = command("export", "q3")

    assert (answer.code, answer.out) == (OK, "")
    assert answer.err == "q3 has no transcripts yet: `retroscribe status q3` shows how it stands.\n"


def test_in_a_process_of_its_own_it_needs_no_broker(desk: Desk, environment: dict[str, str], tmp_path: Path) -> None:
    transcribed(desk, "m-1")

    nobody = {"RETROSCRIBE_REDIS_URL": f"unix://{tmp_path}/nobody"}
    answer = run_command("export", "q3", "--text", folder=tmp_path, **environment | nobody)

    assert (answer.returncode, answer.stdout.splitlines()[1]) == (OK, "[1:01] agent: Grüß dich")
