"""The sandbox's access tokens."""

import secrets
import time

AVAILABLE_SCOPES = frozenset({"media:transcription:write", "media:media:read"})


class Tokens:
    """Issued tokens and what each one may do; expired ones are forgotten."""

    def __init__(self, lifetime_seconds: int) -> None:
        self.lifetime_seconds = lifetime_seconds
        self._issued: dict[str, tuple[float, frozenset[str]]] = {}

    def issue(self, scope: str) -> str:
        """A new token for those of the scopes (separated by spaces) that there are."""
        now = time.monotonic()
        self._issued = {token: entry for token, entry in self._issued.items() if entry[0] > now}
        token = secrets.token_urlsafe(32)
        self._issued[token] = (now + self.lifetime_seconds, AVAILABLE_SCOPES & set(scope.split()))
        return token

    def scopes(self, authorization: str) -> frozenset[str] | None:
        """The scopes of the token in an Authorization header, None when it is not valid."""
        scheme, _, token = authorization.partition(" ")
        expires_at, scopes = self._issued.get(token.strip(), (0.0, frozenset()))
        return scopes if scheme.lower() == "bearer" and expires_at > time.monotonic() else None

    def revoke_all(self) -> None:
        """Makes every token issued so far invalid."""
        self._issued.clear()
