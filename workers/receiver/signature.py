"""The optional second proof: a signature over the raw body, for gateways before us that can make one."""

import hashlib
import hmac
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from workers.errors import InputError

HUB_HEADER: Final = "x-hub-signature-256"

#: Whether the headers (names in lower case) hold a valid signature of the body.
Check = Callable[[Mapping[str, str], bytes], bool]


def signature_check(kind: str, secrets: Sequence[str]) -> Check | None:
    """How signatures of this kind are checked, None when none are asked for; raises InputError without its library."""
    if kind == "none":
        return None
    return _standard(secrets) if kind == "standard-webhooks" else _hub(secrets)


def sign(kind: str, secrets: Sequence[str], raw: bytes) -> dict[str, str]:
    """The headers with which the first secret signs a body, for the doctor's self-test; none for `none`."""
    if kind == "none":
        return {}
    if kind == "standard-webhooks":
        message, at = f"msg_{uuid.uuid4().hex}", datetime.now(UTC)
        signature = _webhook(secrets[0]).sign(message, at, raw.decode())
        return {
            "webhook-id": message,
            "webhook-timestamp": f"{int(at.timestamp())}",
            "webhook-signature": signature,
        }
    return {HUB_HEADER: _hub_signature(secrets[0].encode(), raw)}


def _webhook(secret: str) -> Any:
    try:
        from standardwebhooks.webhooks import Webhook  # noqa: PLC0415 an extra
    except ImportError:
        raise InputError(
            "RETROSCRIBE_RECEIVER_SIGNATURE is standard-webhooks, for which a library is missing: "
            "install Retroscribe with its extra `signature`, as requirements.image.lock has it."
        ) from None
    return Webhook(secret)


def _standard(secrets: Sequence[str]) -> Check:
    """Standard Webhooks v1; its library refuses what is more than five minutes old or ahead."""
    hooks = [_webhook(secret) for secret in secrets]

    def signed(hook: Any, headers: dict[str, str], raw: bytes) -> bool:
        try:
            hook.verify(raw, headers, json_parse=False)
        except Exception:  # noqa: BLE001 an odd header raises whatever its parsing does
            return False
        return True

    def check(headers: Mapping[str, str], raw: bytes) -> bool:
        given = {name: headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")}
        named = {f"webhook-{name}": value for name, value in given.items()}
        return any(signed(hook, named, raw) for hook in hooks)

    return check


def _hub(secrets: Sequence[str]) -> Check:
    """`X-Hub-Signature-256: sha256=HEX`, which has no timestamp: a replayed event is a duplicate, and no harm."""
    keys = [secret.encode() for secret in secrets]

    def check(headers: Mapping[str, str], raw: bytes) -> bool:
        given = headers.get(HUB_HEADER, "").encode()
        made = [_hub_signature(key, raw).encode() for key in keys]
        return any(hmac.compare_digest(given, one) for one in made)

    return check


def _hub_signature(key: bytes, raw: bytes) -> str:
    return f"sha256={hmac.new(key, raw, hashlib.sha256).hexdigest()}"
