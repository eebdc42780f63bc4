"""What the receiver proves and tells: nothing to strangers, TLS, signatures, figures, and one fault that spoils one."""

import asyncio
import base64
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from sqlalchemy import Engine, event

from config.settings import Settings
from tests.support.desk import completed
from tests.support.eventually import eventually
from tests.support.receiver import (
    ACCEPTED,
    MOST_BYTES,
    NO_BROKER,
    SECRETS,
    SPOKEN,
    STRANGER,
    UNAUTHORIZED,
    Receiver,
    started,
    token,
)
from workers.errors import InputError
from workers.model import State
from workers.pipeline import events as pipeline
from workers.pipeline.callbacks import CALLBACK_PATH, mint
from workers.pipeline.events import Delivery, Receipt
from workers.receiver import inbox
from workers.receiver.app import make_app
from workers.receiver.server import configured
from workers.resources import Resources
from workers.sandbox.signing import signer

SIGNING = base64.b64encode(b"a secret that signs bodies").decode()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path, authority: trustme.CA) -> Iterator[Receiver]:
    """One that speaks TLS and wants a signature."""
    folder = tmp_path_factory.mktemp("closed")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for part in certificate.cert_chain_pems:
        part.write_to_path(folder / "chain.pem", append=True)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    settings = {
        "receiver_tls_certificate": folder / "chain.pem",
        "receiver_tls_key": folder / "key.pem",
        "receiver_read_seconds": 2,
        "receiver_signature": "standard-webhooks",
        "receiver_signature_secrets": SIGNING,
    }
    with started(folder, empty_ledger, NO_BROKER, tls=trusting, **settings) as one:
        yield one


class TestStrangers:
    """Over an application in this process, whose statements can be counted."""

    @pytest.fixture
    def statements(self) -> Iterator[list[str]]:
        """Every statement that any database gets meanwhile."""
        seen: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        event.listen(Engine, "before_cursor_execute", note)
        yield seen
        event.remove(Engine, "before_cursor_execute", note)

    def test_no_query_runs_for_a_token_that_nobody_minted_and_its_answer_tells_nothing(
        self, receiver: Receiver, statements: list[str]
    ) -> None:
        recording, ref = receiver.submitted()
        body = completed(f"t-{recording.media_id}", SPOKEN)
        refs = {"there": ref, "not there": uuid.uuid4().hex}

        async def ask() -> tuple[list[httpx.Response], int, httpx.Response]:
            async with in_process(receiver) as sender:
                statements.clear()
                forged = [await sender.post(mint(one, STRANGER), content=body) for one in refs.values()]
                large = [await sender.post(mint(one, STRANGER), content=body * 100) for one in refs.values()]
                asked = len(statements)
                return [*forged, *large], asked, await sender.post(token(ref), content=body)

        refused, asked, taken = asyncio.run(ask())

        assert asked == 0
        assert {(one.status_code, one.content, str(one.headers)) for one in refused} == {
            (401, refused[0].content, str(refused[0].headers))
        }
        assert taken.status_code == 200
        assert statements  # so they would have been seen

    def test_no_answer_names_what_it_is_about(self, receiver: Receiver) -> None:
        recording, ref = receiver.submitted()
        other, _ = receiver.submitted()
        bodies = [
            completed(f"t-{recording.media_id}", SPOKEN),
            completed(f"t-{recording.media_id}", SPOKEN, media_id=other.media_id),
            b"not JSON",
            b"x" * 2 * MOST_BYTES,
        ]

        answers = [repr(receiver.post(made, body)) for body in bodies for made in (token(ref), mint(ref, STRANGER))]

        for secret in (recording.media_id, other.media_id, recording.ref, ref, SPOKEN):
            assert not [answer for answer in answers if secret in answer]


@asynccontextmanager
async def in_process(receiver: Receiver) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application in this process, over the receiver's ledger, whose broker is away."""
    settings = Settings(
        database_url=str(receiver.ledger._engine.url),
        redis_url=NO_BROKER,
        webhook_secrets=",".join(one.decode() for one in SECRETS),  # type: ignore[arg-type]
        receiver_max_bytes=MOST_BYTES,
    )
    resources = Resources(settings)
    app = make_app(resources)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://x{CALLBACK_PATH}/") as sender:
            yield sender
    resources.close()


class TestTogether:
    """Many events in one transaction; the first of them waits until the others have come."""

    def test_one_event_that_can_not_be_kept_spoils_no_other(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        submitted = [receiver.submitted() for _ in range(6)]
        real, sizes, others_came = pipeline.receive_all, [], asyncio.Event()
        store, came = inbox.Inbox.store, []

        def receive_all(resources: Resources, deliveries: list[Delivery]) -> list[Receipt]:
            sizes.append(len(deliveries))
            if len(sizes) == 1:
                eventually(others_came.is_set, what="the other events")
            if any(b"poison" in one.raw for one in deliveries):
                raise RuntimeError("a fault of ours")
            return real(resources, deliveries)

        async def counted(itself: inbox.Inbox, delivery: Delivery) -> Receipt:
            came.append(delivery)
            return await store(itself, delivery)

        monkeypatch.setattr(inbox, "receive_all", receive_all)
        monkeypatch.setattr(inbox.Inbox, "store", counted)

        async def ask() -> list[httpx.Response]:
            async with in_process(receiver) as sender:
                sent = []
                for n, (one, ref) in enumerate(submitted):
                    body = completed(f"t-{one.media_id}", "poison" if n == 3 else SPOKEN)
                    sent.append(asyncio.create_task(sender.post(token(ref), content=body)))
                    while not sizes:  # noqa: ASYNC110 the first one goes to the ledger alone, in a thread
                        await asyncio.sleep(0.001)
                while len(came) < len(submitted):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                others_came.set()
                return await asyncio.gather(*sent)

        answers = asyncio.run(ask())

        assert sizes[:2] == [1, 5]
        assert [one.status_code for one in answers] == [200, 200, 200, 500, 200, 200]
        assert answers[3].json()["status"] == "error"
        assert [len(receiver.kept(ref)) for _, ref in submitted] == [1, 1, 1, 0, 1, 1]


class TestSignedAndEncrypted:
    def test_a_valid_token_without_a_valid_signature_is_answered_as_a_forged_one(self, closed: Receiver) -> None:
        recording, ref = closed.submitted()
        body = completed(f"t-{recording.media_id}", SPOKEN)
        sign = signer(f"standard-webhooks:{SIGNING}")

        unsigned = closed.post(token(ref), body)
        other_body = closed.sender.post(closed.url(token(ref)), content=body, headers=sign(body + b" "))
        kept_before = closed.kept(ref)
        signed = closed.sender.post(closed.url(token(ref)), content=body, headers=sign(body))

        assert unsigned == (other_body.status_code, other_body.json()) == UNAUTHORIZED
        assert kept_before == []
        assert (signed.status_code, signed.json()) == ACCEPTED
        found = closed.metrics()
        assert found['retroscribe_receiver_signatures_total{result="invalid"}'] == 2
        assert found['retroscribe_receiver_signatures_total{result="valid"}'] == 1

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
    def test_tls_before_1_2_is_not_spoken_and_plain_http_is_not_answered(
        self, closed: Receiver, authority: trustme.CA
    ) -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(old)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        address = ("127.0.0.1", closed.port)

        with socket.create_connection(address, timeout=10) as connection, pytest.raises(ssl.SSLError):
            old.wrap_socket(connection, server_hostname="127.0.0.1")
        assert b"HTTP/1.1 200" not in closed.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert closed.get("/healthz").is_success

    def test_a_caller_that_never_begins_to_encrypt_is_cut_off(self, closed: Receiver) -> None:
        with socket.create_connection(("127.0.0.1", closed.port), timeout=20) as connection:
            assert connection.recv(1) == b""

    @pytest.mark.parametrize(
        ("certificate", "says"), [("missing.pem", "where there is no file"), ("rubbish.pem", "can't be used")]
    )
    def test_a_certificate_that_can_not_be_used_is_named(self, tmp_path: Path, certificate: str, says: str) -> None:
        for name in ("rubbish.pem", "key.pem"):
            (tmp_path / name).write_text("rubbish")
        pair = {"receiver_tls_certificate": tmp_path / certificate, "receiver_tls_key": tmp_path / "key.pem"}

        with pytest.raises(InputError, match=says) as problem:
            configured(Resources(Settings(home=tmp_path, **pair)))

        assert str(tmp_path / certificate) in str(problem.value)


def test_every_delivery_is_counted_by_what_it_came_to(receiver: Receiver) -> None:
    recording, ref = receiver.submitted()
    other, other_ref = receiver.submitted()
    _, forgotten = receiver.submitted(state=State.FORGOTTEN)
    unknown_type = b'{"eventType": "transcription.progress", "data": {}}'
    body = completed(f"t-{recording.media_id}", SPOKEN)
    deliveries = [
        ("accepted", token(ref), body),
        ("duplicate", token(ref), body),
        ("duplicate", mint(ref, SECRETS[1:]), body),
        ("unknown", token(ref), unknown_type),
        ("ignored", token(forgotten), body),
        ("unmatched", token(uuid.uuid4().hex), body),
        ("refused", token(other_ref), body),
        ("mismatched", token(ref), completed("t", SPOKEN, media_id=other.media_id)),
        ("forged", mint(ref, STRANGER), body),
        ("malformed", token(ref), b"{"),
        ("too_large", token(ref), b"x" * 2 * MOST_BYTES),
    ]
    before = receiver.metrics()

    for _, made, content in deliveries:
        receiver.post(made, content)

    def growth() -> dict[str, float]:
        after = receiver.metrics()
        return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}

    # What is too large is answered while it still arrives, and counted when it is over.
    last = 'retroscribe_receiver_events_total{verdict="too_large"}'
    eventually(lambda: growth().get(last) == 1, what="the count of the last one")
    grown = growth()
    verdicts = [verdict for verdict, _, _ in deliveries]
    for verdict in verdicts:
        assert grown[f'retroscribe_receiver_events_total{{verdict="{verdict}"}}'] == verdicts.count(verdict)
    assert grown['retroscribe_receiver_tokens_total{secret="1"}'] == 9
    assert grown['retroscribe_receiver_tokens_total{secret="2"}'] == 1
    assert grown["retroscribe_receiver_request_seconds_count"] == len(deliveries)
    assert grown["retroscribe_receiver_store_seconds_count"] >= 1


def test_an_event_before_the_answer_to_its_submission_counts_as_early(receiver: Receiver) -> None:
    recording, ref = receiver.submitted(state=State.SUBMITTING)
    before = receiver.metrics()["retroscribe_receiver_early_events_total"]

    assert receiver.post(token(ref), completed(f"t-{recording.media_id}", SPOKEN)) == ACCEPTED

    assert receiver.metrics()["retroscribe_receiver_early_events_total"] == before + 1
