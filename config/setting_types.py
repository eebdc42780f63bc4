"""What the groups of settings have in common."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

Url = Annotated[str | None, Field(default=None)]
#: The highest limit that can be set.
FASTEST_PER_SECOND = 10_000.0
PerSecond = Annotated[float, Field(gt=0, le=FASTEST_PER_SECOND)]


class SettingsProblem(ValueError):
    """A setting is wrong or missing; the text names it and the next step."""


def from_environment(prefix: str) -> SettingsConfigDict:
    """Read from the environment, which goes before `.env`; an empty value means unset."""
    return SettingsConfigDict(env_prefix=prefix, env_file=".env", env_ignore_empty=True, extra="ignore")


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


#: A field of this type is set as one text: `Annotated[tuple[str, ...], *COMMA_SEPARATED]`.
COMMA_SEPARATED = (NoDecode, BeforeValidator(_split))
