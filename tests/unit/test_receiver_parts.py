"""What the receiver looks at before and beside the ledger: depth, signatures, addresses, settings."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.setting_types import SettingsProblem
from config.settings import Settings, load_settings
from workers.genesys.depth import is_deeper
from workers.pipeline.callbacks import mint, verify_by
from workers.receiver.entrance import address, route
from workers.receiver.signature import signature_check
from workers.sandbox.signing import signer

BODY = b'{"eventType": "transcription.completed"}'
OLD, NEW, FOREIGN = (base64.b64encode(name * 8).decode() for name in (b"old", b"new", b"for"))
KINDS = ("standard-webhooks", "x-hub-signature-256")
REF = "0123456789abcdef0123456789abcdef"

values = st.recursive(
    st.none() | st.text(alphabet='[]{}"\\a') | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\'), inner, max_size=3),
    max_leaves=20,
)


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(values, st.booleans())
def test_the_depth_of_json_is_what_its_reader_finds(value: object, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    assert not is_deeper(raw, depth(value))
    assert depth(value) == 0 or is_deeper(raw, depth(value) - 1)


def signed(kind: str, secret: str, body: bytes = BODY) -> dict[str, str]:
    return {name.lower(): value for name, value in signer(f"{kind}:{secret}")(body).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_of_any_of_the_secrets_is_valid_and_no_other(kind: str) -> None:
    check = signature_check(kind, [NEW, OLD])

    assert check is not None
    assert [check(signed(kind, secret), BODY) for secret in (NEW, OLD, FOREIGN)] == [True, True, False]
    assert not check(signed(kind, NEW), BODY + b" ")
    assert not check({}, BODY)


@pytest.mark.parametrize(
    "odd",
    [
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,%%%"},
        {"webhook-signature": "\u20ac"},
        {"webhook-timestamp": "yesterday"},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "9" * 400},
        {"x-hub-signature-256": "sha256=\u20ac"},
        {"x-hub-signature-256": "sha1=0"},
    ],
)
def test_odd_signature_headers_are_invalid_and_do_no_harm(odd: dict[str, str]) -> None:
    for kind in KINDS:
        check = signature_check(kind, [NEW])

        assert check is not None
        assert not check({**signed("standard-webhooks", FOREIGN), **odd}, BODY)
        assert not check(odd, b"\xff\xfe")


@pytest.mark.parametrize(("age_seconds", "valid"), [(0, True), (280, True), (400, False), (-400, False)])
def test_a_standard_signature_is_good_for_five_minutes(age_seconds: int, valid: bool) -> None:
    sent_at = str(int(time.time()) - age_seconds)
    mac = hmac.new(base64.b64decode(NEW), f"msg_1.{sent_at}.".encode() + BODY, hashlib.sha256).digest()
    signature = f"v1a,x v1,{base64.b64encode(mac).decode()}"
    headers = {"webhook-id": "msg_1", "webhook-timestamp": sent_at, "webhook-signature": signature}
    check = signature_check("standard-webhooks", [NEW])

    assert check is not None
    assert check(headers, BODY) == valid


def test_no_signature_is_checked_unless_it_is_asked_for() -> None:
    assert signature_check("none", []) is None


def test_which_secret_signed_a_token_is_known() -> None:
    secrets = [NEW.encode(), OLD.encode()]

    assert [verify_by(mint(REF, [one]), secrets) for one in secrets] == [(REF, 1), (REF, 2)]


@pytest.mark.parametrize(
    ("client", "shown"),
    [(("203.0.113.7", 1), "203.0.113.7"), (("evil\x1b[31m", 0), None), (("", 0), None), (None, None)],
)
def test_an_address_is_shown_only_if_it_is_one(client: tuple[str, int] | None, shown: str | None) -> None:
    assert address(client) == shown


def test_no_path_is_logged_but_the_known_ones() -> None:
    assert [route(path) for path in ("/healthz", "/api/webhooks/genesys-transcription/secret", "/secret")] == [
        "healthz",
        "callback",
        "none",
    ]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"RECEIVER_TLS_KEY": "key.pem"}, "RETROSCRIBE_RECEIVER_TLS_CERTIFICATE"),
        ({"RECEIVER_TLS_CERTIFICATE": "one.pem"}, "RETROSCRIBE_RECEIVER_TLS_KEY"),
        ({"RECEIVER_TRUSTED_PROXIES": "*"}, "RETROSCRIBE_RECEIVER_TRUSTED_PROXIES"),
        ({"RECEIVER_SIGNATURE": "x-hub-signature-256"}, "RETROSCRIBE_RECEIVER_SIGNATURE_SECRETS"),
        (
            {"RECEIVER_SIGNATURE": "x-hub-signature-256", "RECEIVER_SIGNATURE_SECRETS": "short-of-16"},
            "RETROSCRIBE_RECEIVER_SIGNATURE_SECRETS",
        ),
        (
            {"RECEIVER_SIGNATURE": "standard-webhooks", "RECEIVER_SIGNATURE_SECRETS": "no base64 at all, is this"},
            "RETROSCRIBE_RECEIVER_SIGNATURE_SECRETS",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_named_and_no_secret_is(
    settings: dict[str, str], names: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    for name, value in settings.items():
        monkeypatch.setenv(f"RETROSCRIBE_{name}", value)

    with pytest.raises(SettingsProblem, match=names) as problem:
        load_settings()

    assert settings.get("RECEIVER_SIGNATURE_SECRETS", "\0") not in str(problem.value)


def test_addresses_and_networks_are_trusted_proxies() -> None:
    settings = Settings(receiver_trusted_proxies="10.0.0.1, fd00::/8,192.168.1.5/24")  # type: ignore[arg-type]

    assert settings.receiver_trusted_proxies == ("10.0.0.1/32", "fd00::/8", "192.168.1.0/24")
