"""The optional second proof: a signature over the raw body, for gateways before us that can make one."""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from workers.errors import InputError

HUB_HEADER: Final = "x-hub-signature-256"

#: Whether the headers (names in lower case) hold a valid signature of the body.
Check = Callable[[Mapping[str, str], bytes], bool]


def signature_check(kind: str, secrets: Sequence[str]) -> Check | None:
    """How signatures of this kind are checked, None when none are asked for; raises InputError without its library."""
    if kind == "none":
        return None
    return _standard(secrets) if kind == "standard-webhooks" else _hub(secrets)


def _standard(secrets: Sequence[str]) -> Check:
    """Standard Webhooks v1; its library refuses what is more than five minutes old or ahead."""
    try:
        from standardwebhooks.webhooks import Webhook  # noqa: PLC0415 an extra
    except ImportError:
        raise InputError(
            "RETROSCRIBE_RECEIVER_SIGNATURE is standard-webhooks, for which a library is missing: "
            "run `pip install 'retroscribe[signature]'`."
        ) from None
    hooks = [Webhook(secret) for secret in secrets]

    def signed(hook: Webhook, headers: dict[str, str], raw: bytes) -> bool:
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
        made = [f"sha256={hmac.new(key, raw, hashlib.sha256).hexdigest()}".encode() for key in keys]
        return any(hmac.compare_digest(given, one) for one in made)

    return check
