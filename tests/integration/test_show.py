"""What was said in one recording, for a person, a pipe or a program, from the ledger alone."""

import time

import pytest

from tests.integration.test_export import transcribed
from tests.support.desk import BY, Desk, request
from tests.support.desk_command import DeskCommand
from workers.ledger import backfills, recordings
from workers.ledger.tables import transcripts
from workers.model import Lane, Reason, State
from workers.pipeline.forget import forget

OK, USAGE, NO_TRANSCRIPT = 0, 2, 3


@pytest.mark.both_ledgers
def test_a_person_sees_who_said_what_when(desk: Desk, command: DeskCommand) -> None:
    (one,) = transcribed(desk, "m-1")
    desk.resources.settings.search_path.write_text("the index is not needed")

    answer = command("show", "m-1")

    head, said = answer.out.split("\n\n")
    assert (answer.code, answer.err) == (OK, "")
    lines = [line.rstrip().split(maxsplit=1) for line in head.splitlines()[1:]]
    assert dict(lines) == {
        "ref": one.ref,
        "backfill": "q3",
        "transcribed": dict(lines)["transcribed"],
        "languages": "de-DE",
        "confidence": "0.75",
        "duration": "2 min 0 s",
        "redacted": "yes",
    }
    assert [line.rstrip() for line in said.splitlines()] == ["1:01 agent: Grüß dich", " " * 12 + "hello\ufffd[2J there"]
    assert command("show", one.ref).out == answer.out


def test_a_long_segment_is_wrapped_below_its_beginning(
    desk: Desk, command: DeskCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcribed(desk, "m-1")
    monkeypatch.setattr("workers.cli.common.console.width", 20)

    said = command("show", "m-1").out.split("\n\n")[1]

    assert said.splitlines()[0].rstrip() == "1:01 agent: Grüß"
    assert said.splitlines()[1].rstrip() == " " * 12 + "dich"


def test_as_text_it_is_what_was_said_and_nothing_else(desk: Desk, command: DeskCommand) -> None:
    transcribed(desk, "m-1")

    assert command("show", "m-1", "--text").out == "Grüß dich\nhello\ufffd[2J there\n"


def test_of_several_recordings_the_newest_transcript_is_shown_and_the_others_are_named(
    desk: Desk, command: DeskCommand
) -> None:
    (older,) = transcribed(desk, "m-1")
    with desk.resources.ledger.write() as tx:
        target = backfills.ensure(tx, "q4", {})
        for number, language in enumerate(("es-ES", "fr-FR"), 1):
            wish = request("m-1", languages=(language,))
            backfills.add(tx, target, Lane.BACKFILL, [backfills.Asked(number, wish)], by=BY)
        spanish, french = (recordings.find(tx, "m-1")[at] for at in (1, 0))
        said = dict(tx.execute(transcripts.select()).mappings().one())
        tx.execute(transcripts.insert().values({**said, "recording_id": spanish.id}))
    desk.set(spanish, state=State.INDEXED, due_at=None)

    answer = command("show", "m-1")

    assert spanish.ref in answer.out.split("\n\n")[0]
    assert answer.out.split("\n\n")[2].splitlines() == [
        f"Also pending in fr-FR, asked for by q4: `retroscribe show {french.ref}`",
        f"Also indexed in en-US, asked for by q3: `retroscribe show {older.ref}`",
    ]
    assert older.ref in command("show", older.ref).out.split("\n\n")[0]
    assert [one["ref"] for one in command("show", "m-1", "--json").json["others"]] == [french.ref, older.ref]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (State.PENDING, "m-1 has no transcript yet: it is pending."),
        (State.TRANSCRIBING, "m-1 has no transcript yet: it is transcribing."),
        (State.REJECTED, "m-1 has no transcript: it is rejected (codec_unsupported)."),
    ],
)
def test_one_without_a_transcript_says_why_and_what_happens_next(
    desk: Desk, command: DeskCommand, state: State, sentence: str
) -> None:
    (asked,) = desk.ask(["m-1"])
    reason = Reason.CODEC_UNSUPPORTED if state == State.REJECTED else None
    desk.set(asked, state=state, reason=reason, due_at=time.time() + 60)

    answer = command("show", "m-1", "--json")

    assert (answer.code, answer.out) == (NO_TRANSCRIPT, "")
    assert answer.err.startswith(sentence)
    assert "`retroscribe explain m-1` shows all that happened." in answer.err


def test_a_forgotten_one_says_so(desk: Desk, command: DeskCommand) -> None:
    (one,) = transcribed(desk, "m-1")
    forget(desk.resources, one, by=BY)

    answer = command("show", "m-1")

    assert (answer.code, answer.out) == (NO_TRANSCRIPT, "")
    assert answer.err.startswith("m-1 has no transcript: it is forgotten. Nothing: its text was removed on request")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["nope"], "There is no recording with the media id or ref 'nope'"), (["m-1", "--json", "--text"], "exclude")],
)
def test_wrong_use_is_one_sentence(desk: Desk, command: DeskCommand, arguments: list[str], sentence: str) -> None:
    transcribed(desk, "m-1")

    answer = command("show", *arguments)

    assert (answer.code, answer.out, sentence in answer.err) == (USAGE, "", True)
