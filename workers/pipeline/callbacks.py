"""Callback tokens: a capability that only we can mint and that fits one submission only."""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

CALLBACK_PATH: Final = "/api/webhooks/genesys-transcription"
_TOKEN: Final = re.compile(r"([0-9a-f]{32})\.([A-Za-z0-9_-]{22,64})")


def mint(callback_ref: str, secrets: Sequence[bytes]) -> str:
    """The token for a submission's callback ref, signed with the first secret."""
    return f"{callback_ref}.{_mac(callback_ref, secrets[0])}"


def verify(token: str, secrets: Sequence[bytes]) -> str | None:
    """The callback ref of a token that one of the secrets signed, else None; compares in constant time."""
    verified = verify_by(token, secrets)
    return None if verified is None else verified[0]


def verify_by(token: str, secrets: Sequence[bytes]) -> tuple[str, int] | None:
    """As `verify`, with which of the secrets signed it, counted from 1: an old one that signs nothing more can go."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    callback_ref, mac = match.groups()
    matches = [hmac.compare_digest(mac, _mac(callback_ref, secret)) for secret in secrets]
    return (callback_ref, matches.index(True) + 1) if any(matches) else None


def callback_uri(base_url: str, callback_ref: str, secrets: Sequence[bytes]) -> str:
    """Where the API sends the events of one submission."""
    return f"{base_url}{CALLBACK_PATH}/{mint(callback_ref, secrets)}"


def _mac(callback_ref: str, secret: bytes) -> str:
    digest = hmac.new(secret, callback_ref.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
