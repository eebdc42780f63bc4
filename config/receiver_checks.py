"""Checks of the receiver's settings that take more than a type; each raises ValueError with what to do."""

import base64
import binascii
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

#: As for callback URIs: shorter ones can be guessed.
SHORTEST_SECRET = 16


def networks(values: Sequence[str]) -> tuple[str, ...]:
    """Addresses and networks, in one spelling."""
    found = []
    for value in values:
        try:
            found.append(str(ip_network(value, strict=False)))
        except ValueError:
            raise ValueError(f"{value!r} is neither an IP address nor a network such as 10.0.0.0/8") from None
    return tuple(found)


def tls_pair(certificate: Path | None, key: Path | None) -> None:
    """Nothing or both."""
    for name, value, other in (("CERTIFICATE", certificate, key), ("KEY", key, certificate)):
        if value is None and other is not None:
            raise ValueError(
                f"RETROSCRIBE_RECEIVER_TLS_{name} is not set: TLS needs a certificate and its key, each as the path "
                "of a PEM file"
            )


def signature_secrets(kind: str, secrets: Sequence[str]) -> None:
    """Some where signatures are asked for, each long enough and of the form that the kind of signature has."""
    if kind == "none":
        return
    if not secrets:
        raise ValueError(
            f"RETROSCRIBE_RECEIVER_SIGNATURE_SECRETS is not set, but RETROSCRIBE_RECEIVER_SIGNATURE is {kind}: give "
            "the secret that the sender signs with"
        )
    for number, secret in enumerate(secrets, 1):
        if len(_key(kind, secret)) < SHORTEST_SECRET:
            raise ValueError(
                f"RETROSCRIBE_RECEIVER_SIGNATURE_SECRETS: secret {number} has less than {SHORTEST_SECRET} bytes, or is "
                "no base64; `openssl rand -base64 32` makes one"
            )


def _key(kind: str, secret: str) -> bytes:
    if kind != "standard-webhooks":
        return secret.encode()
    bare = secret.removeprefix("whsec_").rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
