"""The settings of the transcription API."""

import hashlib

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from config.setting_types import SettingsProblem, from_environment
from config.urls import http_url, is_loopback


class GenesysSettings(BaseSettings):
    """How the transcription API is reached."""

    model_config = from_environment("GENESYS_")

    base_url: str = Field("https://api.mypurecloud.com", description="The API of your region, without a path.")
    token_url: str | None = Field(
        None, description="Where access tokens are fetched; default: the base URL with /api/v2/oauth/token."
    )
    client_id: str | None = Field(None, description="OAuth client id (grant type client credentials).")
    client_secret: SecretStr | None = Field(None, description="OAuth client secret; never logged.")
    scopes: str = Field(
        "media:transcription:write media:media:read", description="Scopes asked for, separated by spaces."
    )

    @field_validator("base_url", "token_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        return None if value is None else http_url(value)

    @property
    def effective_token_url(self) -> str:
        return self.token_url or f"{self.base_url}/api/v2/oauth/token"

    @property
    def on_loopback(self) -> bool:
        return is_loopback(self.base_url)

    def credentials(self) -> tuple[str, str]:
        """Client id and secret; raises SettingsProblem when one is missing: only what calls the API needs them."""
        for name, value in (("GENESYS_CLIENT_ID", self.client_id), ("GENESYS_CLIENT_SECRET", self.client_secret)):
            if value is None:
                raise SettingsProblem(
                    f"{name} is not set: put the OAuth client's value into the environment or .env "
                    "(`retroscribe sandbox` prints values for trying out)."
                )
        assert self.client_id is not None  # noqa: S101 for the type checker
        assert self.client_secret is not None  # noqa: S101
        return self.client_id, self.client_secret.get_secret_value()

    @property
    def client_key(self) -> str:
        """A short stable name of this API client for keys in Redis and the ledger; not the client id itself."""
        return hashlib.sha256(f"{self.base_url}\n{self.client_id}".encode()).hexdigest()[:16]
