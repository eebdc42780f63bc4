"""Every setting, read from the environment or `.env`, checked before anything starts."""

import hashlib
import os
import re
import secrets
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator

from config.genesys import GenesysSettings
from config.receiver import ReceiverSettings
from config.search import SearchSettings
from config.setting_types import COMMA_SEPARATED, PerSecond, SettingsProblem, Url, from_environment
from config.urls import broker_url, kombu_url, with_scheme

# A Unix socket's path may have 107 bytes on Linux, 103 on macOS (sun_path in sys/un.h); the server adds a suffix.
SOCKET_PATH_BYTES = 100


class Settings(ReceiverSettings, SearchSettings):
    """What Retroscribe itself needs to know."""

    model_config = from_environment("RETROSCRIBE_")

    genesys: GenesysSettings = Field(default_factory=GenesysSettings, exclude=True)

    home: Path = Field(Path(".retroscribe"), description="Folder for the data of the embedded parts; a local disk.")
    redis_url: Url = Field(
        None, description="Redis or Valkey for limiter and token: redis://, rediss:// or unix://; unset: embedded."
    )
    broker_url: Url = Field(
        None,
        description="Celery's broker: Redis or Valkey as above, or RabbitMQ by amqp:// or amqps://; unset: the same as "
        "RETROSCRIBE_REDIS_URL.",
    )
    database_url: Url = Field(
        None,
        description="The ledger: sqlite:///path of a file on a local disk, or, for several machines, "
        "postgresql+psycopg://user:password@host/name; unset: a file in the home.",
    )
    languages: Annotated[tuple[str, ...], *COMMA_SEPARATED] = Field(
        ("en-US",), description="BCP 47 tags for recordings that name none, comma-separated, the first is primary."
    )
    submit_limit: PerSecond = Field(10, description="The tenant's published limit on submissions, per second.")
    media_limit: PerSecond = Field(20, description="Limit on media look-ups, per second.")
    status_limit: PerSecond = Field(10, description="Limit on status look-ups, per second.")
    token_limit: PerSecond = Field(1, description="Limit on fetching access tokens, per second.")
    limit_ceiling: float = Field(0.99, gt=0, le=1, description="Share of a limit that is used at most.")
    limit_buckets: Literal["separate", "shared"] = Field(
        "separate", description="`shared`: all calls draw on the submit limit; `separate`: each class has its own."
    )
    allowed_codecs: Annotated[tuple[str, ...], *COMMA_SEPARATED] = Field(
        ("pcm", "mp3", "opus", "vorbis", "webm"), description="Codecs that the API transcribes, comma-separated."
    )
    max_duration_seconds: float = Field(
        1800, gt=0, description="Longest recording in seconds that the API transcribes (1800 on the standard plan)."
    )
    poll_after_seconds: float | None = Field(
        None,
        gt=0,
        description="First status look-up, seconds after acceptance; unset: 600, 60 without webhooks.",
    )
    deadline_hours: float = Field(24, gt=0, description="Accepted this many hours ago and not finished: parked.")
    unknown_policy: Literal["park", "resubmit"] = Field(
        "park",
        description="`park` leaves an outcome that stays unknown to a person; `resubmit` repeats it once before that.",
    )
    unknown_after_seconds: float = Field(
        7200, gt=0, description="How many seconds an unknown outcome waits for proof before the policy decides."
    )
    submit_lease_seconds: float = Field(
        90, ge=30, description="How many seconds a worker owns a submission; more than the call's 25."
    )
    max_attempts: int = Field(8, ge=1, le=100, description="Tries of one recording before it fails; 429s don't count.")
    flower_host: str = Field(
        "127.0.0.1", description="Address of the Flower pages; beyond this machine they ask for a password."
    )
    flower_port: int = Field(5555, ge=1, le=65535, description="Port of the Flower pages.")
    flower_basic_auth: SecretStr | None = Field(
        None, description="user:password that the Flower pages ask for; several comma-separated; unset: nothing."
    )
    flower_read_only: bool = Field(
        default=True,
        description="Whether the Flower pages only show; false: who has a password may stop workers and tasks.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address of the Prometheus metrics of exporter and receiver; whoever reaches it may read, so only "
        "in a private network another one.",
    )
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="Port of the Prometheus metrics of exporter and receiver; 0: none."
    )
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")
    alive_file: Path | None = Field(
        None,
        description="File that a worker touches with each heartbeat and beat each second, for health checks: a path of "
        "each process's own; unset: none.",
    )

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("alive_file")
    @classmethod
    def _in_a_folder(cls, value: Path | None) -> Path | None:
        if value is not None and not os.access(value.parent, os.W_OK):
            raise ValueError("must be in a folder that there is and that can be written to")
        return value

    @field_validator("languages")
    @classmethod
    def _some_language(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one BCP 47 tag, such as en-US")
        return value

    @field_validator("flower_basic_auth")
    @classmethod
    def _user_and_password(cls, value: SecretStr | None) -> SecretStr | None:
        for one in value.get_secret_value().split(",") if value else ():
            user, _, password = one.partition(":")
            if not user.strip() or len(password) < 8:
                raise ValueError("must be user:password with at least 8 characters of password, comma-separated")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str | None) -> str | None:
        return with_scheme(value, ("redis", "rediss", "unix"))

    @field_validator("broker_url")
    @classmethod
    def _broker_scheme(cls, value: str | None) -> str | None:
        return broker_url(value)

    @field_validator("database_url")
    @classmethod
    def _database_scheme(cls, value: str | None) -> str | None:
        known = with_scheme(value, ("sqlite", "postgresql+psycopg", "postgresql"))
        return known and re.sub("^postgresql://", "postgresql+psycopg://", known)

    @property
    def embedded_redis(self) -> bool:
        return self.redis_url is None

    @property
    def effective_redis_url(self) -> str:
        """Redis in the form that redis-py takes."""
        return self.redis_url or f"unix://{self.socket_path}"

    @property
    def socket_path(self) -> Path:
        """The embedded server's Unix socket, in the home unless its path would be too long for one."""
        inside = self.home / "valkey.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"retroscribe-{os.getuid()}-{digest}" / "valkey.sock"

    @property
    def effective_broker_url(self) -> str:
        """The broker in the form that kombu takes."""
        return kombu_url(self.broker_url or self.effective_redis_url)

    @property
    def effective_result_url(self) -> str:
        """Where the answer to an enqueue message is kept, in the form that Celery takes."""
        return kombu_url(self.effective_redis_url)

    @property
    def effective_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'ledger.sqlite3'}"

    @property
    def shared_ledger(self) -> bool:
        """Whether other machines may use the ledger too: it is on a server."""
        return self.effective_database_url.startswith("postgresql")

    @property
    def search_path(self) -> Path | None:
        """The file of the embedded search index, None when it is in a cluster."""
        if self.search_url is None:
            return self.home / "search.sqlite3"
        return Path(self.search_url.removeprefix("sqlite:///")) if self.search_url.startswith("sqlite") else None

    @property
    def callback_base_url(self) -> str | None:
        """Where the API sends its events; None: it can't reach us, so completion is polled."""
        if self.public_url:
            return self.public_url
        if self.genesys.on_loopback:
            return f"{self.receiver_scheme}://127.0.0.1:{self.receiver_port}"
        return None

    @property
    def effective_poll_after_seconds(self) -> float:
        return self.poll_after_seconds or (600.0 if self.callback_base_url else 60.0)

    @cached_property
    def signing_secrets(self) -> tuple[bytes, ...]:
        """The secrets of callback URIs, first signs; made once in the home when none are set.

        Raises SettingsProblem when none are set and other machines, whose homes hold others, may share the ledger.
        """
        if self.webhook_secrets:
            return tuple(secret.get_secret_value().encode() for secret in self.webhook_secrets)
        if self.shared_ledger:
            raise SettingsProblem(
                "RETROSCRIBE_WEBHOOK_SECRETS is not set: the machines that share a PostgreSQL ledger take each other's "
                "callbacks, so give all of them the same; `openssl rand -hex 32` makes one."
            )
        return (_kept_secret(self.home / "webhook-secret"),)

    def limit(self, call_class: str) -> float:
        """The published limit of a call class, per second."""
        limit: float = getattr(self, f"{call_class}_limit")
        return limit


def load_settings() -> Settings:
    """Reads the settings; raises SettingsProblem with one sentence that names the first wrong one."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsProblem(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    message = re.sub("^Input should be", "must be", first["msg"].removeprefix("Value error, "))
    if not first["loc"]:
        return f"{message}."
    prefix = "GENESYS_" if error.title == GenesysSettings.__name__ else "RETROSCRIBE_"
    name = prefix + str(first["loc"][0]).upper()
    # A secret is never shown, and of a URL neither the user nor the password that may stand in it.
    value = re.sub(r"//.*@", "//***@", str(first["input"]), flags=re.DOTALL)
    value = re.sub(r"(?i)(password=)[^&]*", r"\1***", value)[:80]
    shown = "" if re.search("(?i)secret|password|api_key|auth", name) else f" (it is {value!r})"
    return f"{name}{shown}: {message[:1].lower()}{message[1:]}; correct it in the environment or .env."


def _kept_secret(path: Path) -> bytes:
    """The secret in the file, made first if nobody has: two processes that start together read the same one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        draft.write_text(secrets.token_hex(32))
        draft.chmod(0o600)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip().encode()
