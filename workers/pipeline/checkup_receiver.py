"""The part of a checkup that calls the receiver back, at the address and in the way in which the API does."""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from config.settings import Settings
from workers.pipeline import callbacks
from workers.pipeline.checkup_http import Ask, Reply, Sign
from workers.pipeline.finding import Finding, ok, warning, wrong
from workers.resources import Resources

#: The API takes an answer that comes later for a failed delivery.
API_WAITS_SECONDS: Final = 2.0
#: Of a type that means nothing to the receiver, which therefore says 200 and keeps nothing.
SELF_TEST: Final = json.dumps({"eventType": "retroscribe.selftest", "data": {}}).encode()


def check_receiver(resources: Resources, ask: Ask, sign: Sign) -> Finding:
    """Whether a callback that this deployment has signed is taken at the public address, and a forged one is not.

    Raises PartUnreachable when nothing answers there.
    """
    settings = resources.settings
    base = settings.callback_base_url
    if base is None:
        found = "polling only: the API has no way to reach the receiver, so no webhooks are asked for"
        return warning("receiver", found, "Set RETROSCRIBE_PUBLIC_URL to the receiver's https address.")
    url = callbacks.callback_uri(base, _ref(), _secrets(settings))
    headers = {"content-type": "application/json", **_signature(resources, sign)}
    reply = ask(url, SELF_TEST, headers)
    if not _took(reply):
        return _refused(base, reply, signed=settings.receiver_signature != "none")
    forged = ask(callbacks.callback_uri(base, _ref(), (secrets.token_bytes(32),)), SELF_TEST, headers)
    if forged.status != 401:
        found = f"{base} answers a forged callback with HTTP {forged.status} instead of 401"
        return wrong("receiver", found, "Send the path to `retroscribe receiver` alone: something before it answers.")
    if reply.seconds > API_WAITS_SECONDS:
        late = f"after {API_WAITS_SECONDS:g} s the API gives up"
        found = f"{base} took a signed callback in {reply.seconds:.1f} s; {late}"
        return warning("receiver", found, "See how busy that machine and the ledger's disk are.")
    found = f"{base} took a signed callback in {reply.seconds * 1000:.0f} ms, asked from here, and refused a forged one"
    return ok("receiver", found)


def _signature(resources: Resources, sign: Sign) -> Mapping[str, str]:
    settings = resources.settings
    signers = [secret.get_secret_value() for secret in settings.receiver_signature_secrets]
    return sign(settings.receiver_signature, signers, SELF_TEST)


def _secrets(settings: Settings) -> Sequence[bytes]:
    """Those that sign callbacks; where none was made yet, one that the receiver can't have: a checkup makes nothing."""
    if settings.webhook_secrets or settings.shared_ledger or (settings.home / "webhook-secret").exists():
        return settings.signing_secrets
    return (secrets.token_bytes(32),)


def _ref() -> str:
    """A callback ref that no submission can have, for it is no UUID of version 4."""
    random = secrets.token_hex(16)
    return f"{random[:12]}0{random[13:]}"


def _took(reply: Reply) -> bool:
    try:
        said = json.loads(reply.body)
    except ValueError:
        return False
    return reply.status == 200 and isinstance(said, dict) and said.get("status") == "accepted"


def _refused(base: str, reply: Reply, *, signed: bool) -> Finding:
    if 300 <= reply.status < 400:
        found = f"{base} redirects to {_target(reply.headers)}, and the API does not follow"
        fix = "Set RETROSCRIBE_PUBLIC_URL to where it redirects to, or have the receiver answer there."
        return wrong("receiver", found, fix)
    if reply.status == 401:
        what = "RETROSCRIBE_WEBHOOK_SECRETS"
        if signed:
            what += " and RETROSCRIBE_RECEIVER_SIGNATURE_SECRETS"
        found = f"{base} refuses a callback that this deployment has signed (HTTP 401)"
        fix = f"Give this machine and the receiver the same {what} and restart it, or correct RETROSCRIBE_PUBLIC_URL."
        return wrong("receiver", f"{found}: it has another secret, or is another deployment's", fix)
    found = f"{base} answers a signed callback with HTTP {reply.status}, as our receiver would not"
    fix = f"Have the proxy pass {callbacks.CALLBACK_PATH}/ on to the receiver, or correct RETROSCRIBE_PUBLIC_URL."
    return wrong("receiver", found, fix, unreachable=True)


def _target(headers: Mapping[str, str]) -> str:
    """Where to, without the path, which may repeat the token."""
    target = urlsplit(headers.get("location", ""))
    return f"{target.scheme}://{target.netloc}" if target.netloc else "another path"
