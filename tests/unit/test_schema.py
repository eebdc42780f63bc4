"""The JSON schema in docs/ is the one that the code checks messages with."""

import json
from pathlib import Path

import pytest

from workers.errors import InputError
from workers.intake.entries import message_schema, read_message

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "enqueue.schema.json"


def test_the_schema_in_the_docs_is_the_one_that_the_command_prints() -> None:
    kept = json.loads(SCHEMA.read_text())

    assert kept == json.loads(json.dumps(message_schema())), "run `retroscribe schema > docs/enqueue.schema.json`"


def test_a_message_with_every_field_of_the_schema_is_taken() -> None:
    fields = json.loads(SCHEMA.read_text())["properties"]
    message = {
        "backfill": "2026-q3",
        "lane": "backfill",
        "defaults": {"languages": ["en-US"], "redaction_policy_id": None, "speaker_identification": True},
        "recordings": [{"media_id": "a1b2"}],
    }

    assert fields.keys() == message.keys()
    assert read_message(message).backfill == "2026-q3"


@pytest.mark.parametrize("missing", json.loads(SCHEMA.read_text())["required"])
def test_a_message_without_a_required_field_is_refused_by_its_name(missing: str) -> None:
    message = {"backfill": "2026-q3", "recordings": [{"media_id": "a1b2"}]}
    del message[missing]

    with pytest.raises(InputError, match=missing):
        read_message(message)
