"""The settings of the receiver: where it listens, how the API reaches it, and whom it believes."""

import base64
import binascii
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from config.setting_types import COMMA_SEPARATED, Url
from config.urls import http_url, is_loopback

#: Shorter ones can be guessed.
SHORTEST_SECRET = 16


class ReceiverSettings(BaseSettings):
    """A part of Settings."""

    public_url: Url = Field(
        None,
        description="How the API reaches the receiver: https, or http on loopback; unset: the receiver's own address "
        "when the API is on loopback, else no webhooks and polling only.",
    )
    webhook_secrets: Annotated[tuple[SecretStr, ...], *COMMA_SEPARATED] = Field(
        (),
        description="Secrets of at least 16 characters that sign callback URIs, comma-separated: the first signs, "
        "all verify; unset: made once and kept in the home; needed where machines share a PostgreSQL ledger.",
    )
    receiver_host: str = Field("127.0.0.1", description="Address that the receiver listens on.")
    receiver_port: int = Field(8000, ge=1, le=65535, description="Port that the receiver listens on.")
    receiver_max_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="Largest webhook body taken, in bytes.")
    receiver_read_seconds: float = Field(
        20, ge=1, le=600, description="How many seconds a webhook's head and body may take to arrive, to the last byte."
    )
    receiver_tls_certificate: Path | None = Field(
        None,
        description="PEM file with the certificate and its chain, when the receiver itself is to speak TLS (1.2 at "
        "least); unset: plain HTTP, for loopback or behind a TLS proxy.",
    )
    receiver_tls_key: Path | None = Field(None, description="PEM file with the certificate's private key.")
    receiver_trusted_proxies: Annotated[tuple[str, ...], *COMMA_SEPARATED] = Field(
        (),
        description="Addresses or networks of the proxies before the receiver, comma-separated: only their "
        "X-Forwarded-For is believed, and only for the access log.",
    )
    receiver_signature: Literal["none", "standard-webhooks", "x-hub-signature-256"] = Field(
        "none",
        description="A second proof beside the token, a signature over the body: `none`, `standard-webhooks` (v1; at "
        "most 5 minutes old) or `x-hub-signature-256`. The platform sends none; a gateway before the receiver may.",
    )
    receiver_signature_secrets: Annotated[tuple[SecretStr, ...], *COMMA_SEPARATED] = Field(
        (),
        description="Secrets of that signature, comma-separated, any of them may have signed; of standard-webhooks "
        "in base64, with or without whsec_ before it.",
    )

    @field_validator("webhook_secrets")
    @classmethod
    def _long_enough(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, secret in enumerate(value, 1):
            if len(secret.get_secret_value()) < SHORTEST_SECRET:
                raise ValueError(
                    f"secret {number} is shorter than {SHORTEST_SECRET} characters; `openssl rand -hex 32` makes one"
                )
        return value

    @field_validator("receiver_trusted_proxies")
    @classmethod
    def _known_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _networks(value)

    @model_validator(mode="after")
    def _receiver_fits_together(self) -> Self:
        _tls_pair(self.receiver_tls_certificate, self.receiver_tls_key)
        secrets_ = [secret.get_secret_value() for secret in self.receiver_signature_secrets]
        _signature_secrets(self.receiver_signature, secrets_)
        return self

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = http_url(value)
        if value.startswith("http://") and not is_loopback(value):
            raise ValueError("must be https unless its host is loopback: callbacks carry a secret")
        return value

    @property
    def receiver_scheme(self) -> str:
        """What the receiver itself speaks."""
        return "https" if self.receiver_tls_certificate else "http"


def _networks(values: Sequence[str]) -> tuple[str, ...]:
    """Addresses and networks, in one spelling."""
    found = []
    for value in values:
        try:
            found.append(str(ip_network(value, strict=False)))
        except ValueError:
            raise ValueError(f"{value!r} is neither an IP address nor a network such as 10.0.0.0/8") from None
    return tuple(found)


def _tls_pair(certificate: Path | None, key: Path | None) -> None:
    """Nothing or both."""
    for name, value, other in (("CERTIFICATE", certificate, key), ("KEY", key, certificate)):
        if value is None and other is not None:
            raise ValueError(
                f"RETROSCRIBE_RECEIVER_TLS_{name} is not set: TLS needs a certificate and its key, each as the path "
                "of a PEM file"
            )


def _signature_secrets(kind: str, secrets: Sequence[str]) -> None:
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
