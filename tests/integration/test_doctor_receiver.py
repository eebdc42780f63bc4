"""The self-test with which `retroscribe doctor` calls the receiver back, and what each wrong answer is called."""

import ssl
import time
from collections.abc import Callable

import pytest
import trustme

from tests.conftest import MakeResources
from tests.support.desk import Desk
from tests.support.scripted_server import ScriptedServer, reply
from workers.cli.doctor import _ask
from workers.errors import PartUnreachable
from workers.ledger import tables
from workers.pipeline.checkup_http import Reply
from workers.pipeline.checkup_receiver import check_receiver
from workers.pipeline.finding import Finding
from workers.receiver.signature import sign
from workers.resources import Resources

SECRET = "a secret that is not the receiver's"
HUB = "x-hub-signature-256"
GATEWAY = "the gateway signs with this"
ACCEPTED = reply(200, {"status": "accepted"})
UNAUTHORIZED = reply(401, {"status": "unauthorized"})


def called_back(resources: Resources) -> Finding:
    return check_receiver(resources, _ask, sign)


def answers(*replies: Reply) -> Callable[..., Reply]:
    """Gives these replies in order."""
    left = list(replies)
    return lambda *_: left.pop(0)


def at(make_resources: MakeResources, server: ScriptedServer) -> Resources:
    return make_resources(RETROSCRIBE_PUBLIC_URL=server.url, RETROSCRIBE_WEBHOOK_SECRETS=SECRET)


@pytest.mark.usefixtures("receiver")
def test_the_receiver_takes_the_self_test_and_keeps_nothing(desk: Desk, resources: Resources) -> None:
    found = called_back(resources)

    assert found.state == "ok", found
    assert "refused a forged one" in found.found
    with resources.ledger.read() as tx:
        assert tx.execute(tables.events.select()).all() == []


@pytest.mark.usefixtures("receiver")
def test_a_receiver_with_another_secret_is_named_so(make_resources: MakeResources) -> None:
    found = called_back(make_resources(RETROSCRIBE_WEBHOOK_SECRETS=SECRET))

    assert found.is_wrong
    assert "another secret" in found.found
    assert "RETROSCRIBE_WEBHOOK_SECRETS" in str(found.fix)
    assert SECRET not in str(found)


@pytest.mark.parametrize("kind", [HUB, "standard-webhooks"])
def test_the_self_test_is_signed_where_a_signature_is_wanted(
    make_resources: MakeResources, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    gateway = GATEWAY if kind == HUB else "d2hvZXZlciBzaWducyBmb3IgdGhlIGdhdGV3YXk="
    monkeypatch.setenv("RETROSCRIBE_RECEIVER_SIGNATURE", kind)
    monkeypatch.setenv("RETROSCRIBE_RECEIVER_SIGNATURE_SECRETS", gateway)
    request.getfixturevalue("receiver")

    assert called_back(make_resources()).state == "ok"
    other = called_back(make_resources(RETROSCRIBE_RECEIVER_SIGNATURE_SECRETS=gateway[::-1].strip("=") * 4))
    assert other.is_wrong
    assert "RETROSCRIBE_RECEIVER_SIGNATURE_SECRETS" in str(other.fix)


@pytest.mark.parametrize(
    ("answer", "said", "unreachable"),
    [
        (
            reply(301, Location="https://elsewhere.example/secret-path"),
            "redirects to https://elsewhere.example,",
            False,
        ),
        (reply(404), "HTTP 404, as our receiver would not", True),
        (reply(200, b"<html>Welcome</html>"), "HTTP 200, as our receiver would not", True),
        (ACCEPTED, "answers a forged callback with HTTP 200 instead of 401", False),
    ],
)
def test_what_is_not_our_receiver_is_wrong_and_says_why(
    make_resources: MakeResources, answer: bytes, said: str, unreachable: bool
) -> None:
    with ScriptedServer(answer) as server:
        found = called_back(at(make_resources, server))

    assert found.is_wrong
    assert said in found.found
    assert found.unreachable is unreachable
    assert found.fix


def test_an_answer_that_the_api_would_not_wait_for_is_a_warning(make_resources: MakeResources) -> None:
    resources = make_resources(RETROSCRIBE_PUBLIC_URL="http://localhost:1")

    found = check_receiver(resources, answers(Reply(200, {}, b'{"status": "accepted"}', 2.4), Reply(401)), sign)

    assert found.state == "warning"
    assert "in 2.4 s; after 2 s the API gives up" in found.found


def test_a_certificate_that_nobody_trusts_is_named_without_the_token(make_resources: MakeResources) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    with ScriptedServer(ACCEPTED, tls=context) as server, pytest.raises(PartUnreachable) as raised:
        called_back(at(make_resources, server))

    assert "certificate that is not trusted here" in str(raised.value)
    assert "genesys-transcription" not in str(raised.value)


def test_a_receiver_that_is_silent_or_away_says_so_without_the_token(
    make_resources: MakeResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.cli.doctor.TIMEOUT_SECONDS", 0.2)
    with ScriptedServer(lambda _: time.sleep(1)) as server, pytest.raises(PartUnreachable) as silent:
        called_back(at(make_resources, server))
    with pytest.raises(PartUnreachable) as away:
        called_back(make_resources(RETROSCRIBE_PUBLIC_URL="http://localhost:1"))

    assert "does not answer within 0.2 s" in str(silent.value)
    assert str(away.value) == "http://localhost:1 does not answer (ConnectError)"
