"""The fleet's one token, in a real Valkey: kept, refreshed once, rejected safely."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from tests.support.eventually import eventually
from tests.support.valkey import Valkey
from workers.errors import ApiUnavailable, CredentialsRejected, Retryable
from workers.genesys.tokens import AccessToken, TokenCache

KEY = "test:token"
LOCK = "test:token-lock"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.close()


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        client.flushall()
        yield client


class Api:
    """Mints token-1, token-2 ...; fails first as often as `failures` says."""

    def __init__(self, lifetime: float = 3600, failures: tuple[Exception, ...] = ()) -> None:
        self.lifetime = lifetime
        self.failures = list(failures)
        self.minted = 0

    def fetch(self) -> tuple[str, float]:
        if self.failures:
            raise self.failures.pop(0)
        self.minted += 1
        return f"token-{self.minted}", self.lifetime


def cache(client: redis.Redis, fetch: Callable[[], tuple[str, float]], **options: object) -> TokenCache:
    return TokenCache(client, key_prefix="test", fetch=fetch, **options)  # type: ignore[arg-type]


def test_a_token_is_fetched_once_and_expires_with_its_lifetime(client: redis.Redis) -> None:
    api = Api()
    tokens = cache(client, api.fetch)

    assert [tokens.get().value for _ in range(3)] == ["token-1"] * 3
    assert api.minted == 1
    assert 3590_000 < client.pttl(KEY) <= 3600_000
    assert not client.exists(LOCK)


@pytest.mark.parametrize(
    ("lifetime", "left_seconds", "value"),
    [(3600, 61, "token-1"), (3600, 59, "token-2"), (40, 21, "token-1"), (40, 19, "token-2")],
)
def test_a_token_is_refreshed_60_s_or_half_its_lifetime_before_it_ends(
    client: redis.Redis, lifetime: float, left_seconds: int, value: str
) -> None:
    tokens = cache(client, Api(lifetime).fetch)
    tokens.get()
    client.expire(KEY, left_seconds)

    assert tokens.get().value == value


def test_a_client_that_decodes_answers_reads_the_same_token(valkey: Valkey, client: redis.Redis) -> None:
    cache(client, Api().fetch).get()

    with redis.Redis.from_url(valkey.url, decode_responses=True) as decoding:
        assert cache(decoding, Api().fetch).get().value == "token-1"


def test_while_another_process_refreshes_the_old_token_serves(client: redis.Redis) -> None:
    api = Api()
    tokens = cache(client, api.fetch)
    tokens.get()
    client.expire(KEY, 30)
    client.set(LOCK, "another", px=60_000)

    assert tokens.get().value == "token-1"
    assert api.minted == 1


def test_without_an_old_token_the_new_one_of_another_process_is_awaited(client: redis.Redis) -> None:
    arrived, go_on = threading.Event(), threading.Event()
    api, waiting = Api(), Api()

    def slow() -> tuple[str, float]:
        arrived.set()
        assert go_on.wait(20)
        return api.fetch()

    with ThreadPoolExecutor() as pool:
        first = pool.submit(cache(client, slow).get)
        assert arrived.wait(20)
        second = pool.submit(cache(client, waiting.fetch).get)
        go_on.set()

        assert first.result(20) == second.result(20) == AccessToken("token-1")
    assert waiting.minted == 0


def test_waiting_for_another_process_ends(client: redis.Redis) -> None:
    client.set(LOCK, "another", px=60_000)

    with pytest.raises(Retryable, match="within"):
        cache(client, Api().fetch, wait_seconds=0.1).get()


def test_a_rejected_token_is_replaced(client: redis.Redis) -> None:
    tokens = cache(client, Api().fetch)
    tokens.reject(tokens.get())

    assert tokens.get().value == "token-2"


def test_rejecting_a_token_spares_a_newer_one(client: redis.Redis) -> None:
    tokens = cache(client, Api().fetch)
    old = tokens.get()
    tokens.reject(old)
    tokens.get()

    tokens.reject(old)

    assert tokens.get().value == "token-2"


def test_a_refresh_that_fails_leaves_the_old_token_in_use_and_pauses(client: redis.Redis) -> None:
    api = Api()
    tokens = cache(client, api.fetch)
    tokens.get()
    client.expire(KEY, 30)
    api.failures = [ApiUnavailable("down", 503)]

    assert tokens.get().value == "token-1"
    assert client.pttl(LOCK) > 0
    assert eventually(lambda: tokens.get().value == "token-2", what="the refresh after the pause")


@pytest.mark.parametrize("failure", [ApiUnavailable("down", 503), CredentialsRejected("no", 401)])
def test_a_fetch_that_fails_without_an_old_token_raises(client: redis.Redis, failure: Exception) -> None:
    with pytest.raises(type(failure)):
        cache(client, Api(failures=(failure,)).fetch).get()


def test_rejected_credentials_raise_although_the_old_token_lives(client: redis.Redis) -> None:
    api = Api()
    tokens = cache(client, api.fetch)
    tokens.get()
    client.expire(KEY, 30)
    api.failures = [CredentialsRejected("no", 401)]

    with pytest.raises(CredentialsRejected):
        tokens.get()


def test_a_permit_is_asked_for_only_when_a_fetch_happens(client: redis.Redis) -> None:
    calls: list[str] = []
    tokens = cache(client, Api().fetch, permit=lambda: nullcontext(calls.append("permit")))
    tokens.get()
    tokens.get()

    assert calls == ["permit"]


def test_a_lock_that_ran_out_while_the_permit_was_waited_for_fetches_nothing_twice(client: redis.Redis) -> None:
    late, used = Api(), []

    @contextmanager
    def another_takes_over() -> Iterator[None]:
        client.delete(LOCK)
        cache(client, Api().fetch).get()
        yield
        used.append("permit")

    assert cache(client, late.fetch, permit=another_takes_over).get().value == "token-1"
    assert (late.minted, used) == (0, [])


def test_a_token_that_is_over_at_once_still_serves_its_call(client: redis.Redis) -> None:
    tokens = cache(client, Api(lifetime=0.0001).fetch)

    assert [tokens.get().value, tokens.get().value] == ["token-1", "token-2"]


def test_a_token_shows_in_no_log_and_no_repr(client: redis.Redis) -> None:
    api = Api()
    tokens = cache(client, api.fetch)
    with capture_logs() as logs:
        token = tokens.get()
        client.expire(KEY, 30)
        api.failures = [ApiUnavailable("down")]
        tokens.get()

    assert [entry["event"] for entry in logs] == ["token_refreshed", "token_refresh_failed"]
    assert "token-1" not in repr(logs) + repr(token) + str(token)


def test_without_redis_the_error_is_one_to_retry(tmp_path: Path) -> None:
    tokens = cache(redis.Redis.from_url(f"unix://{tmp_path}/gone.sock"), Api().fetch)

    for call in (tokens.get, lambda: tokens.reject(AccessToken("x"))):
        with pytest.raises(Retryable, match="RETROSCRIBE_REDIS_URL"):
            call()


def race(url: str, barrier: Barrier) -> None:
    """One process of a fleet: eight threads ask at once."""
    client = redis.Redis.from_url(url)

    def fetch() -> tuple[str, float]:
        return f"token-{client.incr('minted')}", 3600

    def one() -> str:
        return cache(client, fetch).get().value

    barrier.wait(60)
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(one) for _ in range(8)]:
            client.rpush("seen", future.result(60))


def test_of_a_fleet_that_starts_at_once_exactly_one_process_fetches(valkey: Valkey, client: redis.Redis) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    processes = [context.Process(target=race, args=(valkey.url, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)

    assert [process.exitcode for process in processes] == [0] * 4
    assert client.get("minted") == b"1"
    assert client.lrange("seen", 0, -1) == [b"token-1"] * 32
