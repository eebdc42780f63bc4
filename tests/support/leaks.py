"""What must never be read by whoever sees logs, messages or audit records: secrets, tokens, and what was said."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from sqlalchemy import select

from tests.support.fleet import Fleet
from workers.genesys.events import parse_event
from workers.ledger import tables, transcripts
from workers.pipeline import callbacks

_BEARER = re.compile(r"(?i)bearer\s+[\w-]{16,}")
#: Longer than anything that stands in a log by chance.
_SAID = 25


def assert_nothing_leaked(fleet: Fleet) -> None:
    """Of what all parts of the fleet have written, and of what lies in the broker beside the access token."""
    written = "\n".join(chain(_logs(fleet), _broker(fleet)))
    secrets = set(_secrets(fleet))
    said = set(_said(fleet))
    assert secrets
    assert said
    assert "recording_submitted" in written
    found = [secret for secret in (*secrets, *said) if secret in written]
    assert found == []
    assert _BEARER.findall(written) == []


def _secrets(fleet: Fleet) -> Iterator[str]:
    """The client's secret, the webhook secrets, the access token, and what makes a callback ref a token."""
    yield fleet.sandbox.client_secret
    signing = fleet.resources.settings.signing_secrets
    yield from (secret.decode() for secret in signing)
    yield fleet.resources.tokens.get().value
    with fleet.resources.ledger.read() as tx:
        refs = tx.execute(select(tables.submissions.c.callback_ref)).scalars().all()
    yield from (callbacks.mint(ref, signing).partition(".")[2] for ref in refs)


def _said(fleet: Fleet) -> Iterator[str]:
    """A piece of each transcript."""
    with fleet.resources.ledger.read() as tx:
        ids = tx.execute(select(tables.transcripts.c.recording_id)).scalars().all()
        payloads = transcripts.payloads(tx, ids)
    for payload in payloads.values():
        transcript = parse_event(payload).transcript
        longest = max((segment.text for segment in transcript.segments), key=len, default="") if transcript else ""
        if len(longest) >= _SAID:
            yield longest


def _logs(fleet: Fleet) -> Iterator[str]:
    for path in chain(fleet.folder.glob("*.log"), fleet.resources.settings.home.glob("*.jsonl")):
        yield path.read_text(errors="replace")


def _broker(fleet: Fleet) -> Iterator[str]:
    with fleet.broker.client() as client:
        for key in client.scan_iter():
            if b"token" not in key:
                yield f"{key!r} {_value(client, key)!r}"


def _value(client: Any, key: bytes) -> object:
    read = {
        b"string": client.get,
        b"list": lambda name: client.lrange(name, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda name: client.zrange(name, 0, -1),
        b"none": lambda _: None,  # a queue that has been emptied meanwhile
    }
    return read[client.type(key)](key)
