"""Composition root: builds ledger, limiter, API client and search index from the settings, once a process."""

import threading
from functools import cached_property, lru_cache
from typing import Final

import redis
from pydantic import SecretStr

from config import queues
from config.settings import Settings, load_settings
from workers.genesys.client import GenesysClient
from workers.genesys.tokens import TokenCache
from workers.ledger.engine import Ledger
from workers.limits.calls import CallCounts
from workers.limits.guard import permitted
from workers.limits.limiter import Limiter
from workers.model import CallClass
from workers.search.index import SearchIndex
from workers.search.opensearch import OpenSearchIndex
from workers.search.opensearch_cluster import Access
from workers.search.sqlite import SqliteIndex


class Resources:
    """The parts that the pipeline combines; each is built when first used and shared by all threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Set when the process is asked to stop: whoever waits for a permit gives up within a second.
        self.stopping = threading.Event()
        self._building = threading.RLock()

    @property
    def client_key(self) -> str:
        """The API client in keys of Redis and of the ledger."""
        return self.settings.genesys.client_key

    @cached_property
    def redis(self) -> "redis.Redis":
        """Bytes in, bytes out; every command has a time limit."""
        return redis.Redis.from_url(
            self.settings.effective_redis_url, socket_timeout=5, socket_connect_timeout=5, health_check_interval=30
        )

    @cached_property
    def ledger(self) -> Ledger:
        with self._building:
            return Ledger(self.settings.effective_database_url)

    @cached_property
    def limiter(self) -> Limiter:
        with self._building:
            return Limiter(
                self.redis,
                client_key=self.client_key,
                limits={call_class: self.settings.limit(call_class) for call_class in CallClass},
                ceiling=self.settings.limit_ceiling,
                shared=self.settings.limit_buckets == "shared",
                max_waiters=queues.THREADS["pipeline"] // 2,
                stop=self.stopping,
            )

    @cached_property
    def calls(self) -> CallCounts:
        with self._building:
            return CallCounts(self.redis, self.client_key)

    @cached_property
    def client(self) -> GenesysClient:
        with self._building:
            client_id, client_secret = self.settings.genesys.credentials()
            return GenesysClient(
                base_url=self.settings.genesys.base_url,
                token_url=self.settings.genesys.effective_token_url,
                client_id=client_id,
                client_secret=client_secret,
                scopes=self.settings.genesys.scopes,
                on_ratelimit=lambda call_class, told: self.limiter.observe(
                    call_class, told.count, told.allowed, told.reset_seconds
                ),
                on_call=self.calls.note,
            )

    @cached_property
    def tokens(self) -> TokenCache:
        with self._building:
            return TokenCache(
                self.redis,
                key_prefix=f"retroscribe:token:{{{self.client_key}}}",
                fetch=self._fetch_token,
                permit=lambda: permitted(self.limiter, CallClass.TOKEN),
            )

    @cached_property
    def index(self) -> SearchIndex:
        with self._building:
            return self._index()

    def close(self) -> None:
        """Closes what was built."""
        for name in ("client", "calls", "index", "ledger", "redis"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def _index(self) -> SearchIndex:
        settings = self.settings
        if settings.search_path is not None:
            return SqliteIndex(settings.search_path)
        access = Access(
            url=str(settings.search_url),
            user=settings.search_user,
            password=_revealed(settings.search_password),
            api_key=_revealed(settings.search_api_key),
            ca_file=settings.search_ca_file,
        )
        return OpenSearchIndex(access, settings.search_index)

    def _fetch_token(self) -> tuple[str, float]:
        return self.client.fetch_token()  # built only by a process that needs one


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


_first: Final = threading.Lock()


def get_resources() -> Resources:
    """This process's resources; threads that ask at once get the same."""
    with _first:
        return _built()


@lru_cache(maxsize=1)
def _built() -> Resources:
    return Resources(load_settings())
