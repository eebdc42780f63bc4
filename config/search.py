"""The settings of the search index."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from config.setting_types import Url
from config.urls import search_url


class SearchSettings(BaseSettings):
    """A part of Settings."""

    search_url: Url = Field(
        None,
        description="The search index: sqlite:///path, or https://host:port of an OpenSearch cluster (http on loopback "
        "only); unset: a file in the home.",
    )
    search_index: str = Field(
        "retroscribe",
        pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$",
        description="What the index is called in a cluster: one for each deployment.",
    )
    search_user: str | None = Field(None, description="User of the cluster, with RETROSCRIBE_SEARCH_PASSWORD.")
    search_password: SecretStr | None = Field(None, description="The user's password; never logged.")
    search_api_key: SecretStr | None = Field(
        None, description="API key of the cluster, base64 of id:key, instead of a user; never logged."
    )
    search_ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the cluster's certificate; unset: the system's."
    )

    @field_validator("search_url")
    @classmethod
    def _search_scheme(cls, value: str | None) -> str | None:
        return search_url(value)

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> Self:
        if self.search_api_key and (self.search_user or self.search_password):
            raise ValueError("RETROSCRIBE_SEARCH_API_KEY is set beside a user or a password: set the one or the other")
        if bool(self.search_user) != bool(self.search_password):
            raise ValueError(
                "RETROSCRIBE_SEARCH_USER and RETROSCRIBE_SEARCH_PASSWORD go together: set both, or neither"
            )
        return self
