"""Signs deliveries, as a gateway before a receiver may; the platform itself does not."""

import base64
import binascii
import hashlib
import hmac
import time
import uuid
from collections.abc import Callable
from typing import Final

Sign = Callable[[bytes], dict[str, str]]

STANDARD: Final = "standard-webhooks"
HUB: Final = "x-hub-signature-256"


def signer(signature: str) -> Sign:
    """What gives the headers for a body; `signature` is KIND:SECRET or empty. Raises ValueError for anything else."""
    kind, _, secret = signature.partition(":")
    if not signature:
        return lambda _: {}
    if kind == HUB and secret:
        return lambda body: {"X-Hub-Signature-256": f"sha256={_mac(secret.encode(), body).hex()}"}
    if kind != STANDARD or not secret:
        raise ValueError(f"{STANDARD} or {HUB}, a colon and the secret")
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError(f"{STANDARD}, a colon and the secret in base64") from None
    return lambda body: _standard(key, body)


def _standard(key: bytes, body: bytes) -> dict[str, str]:
    message, sent_at = f"msg_{uuid.uuid4().hex}", f"{int(time.time())}"
    mac = base64.b64encode(_mac(key, f"{message}.{sent_at}.".encode() + body)).decode()
    return {"webhook-id": message, "webhook-timestamp": sent_at, "webhook-signature": f"v1,{mac}"}


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).digest()
