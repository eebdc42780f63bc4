"""The access token, fetched once for the whole fleet and kept in Redis for as long as it lives."""

import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import redis
import structlog

from workers.errors import Retryable

REFRESH_BEFORE_SECONDS = 60.0
LOCK_SECONDS = 30.0
SLICE_SECONDS = 0.05
PAUSE_AFTER_FAILURE_SECONDS = 1.0
LONGEST_LIFETIME_SECONDS = 24 * 3600.0

# KEYS[1] the token: hash of value, refresh_ms (refresh once less than this is left) and lifetime_ms (what it had when
#         it was asked for), expires with the token
# ARGV[1] the rejected value
_FORGET = "if redis.call('HGET', KEYS[1], 'value') == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# KEYS[1] the lock: string, the holder's random mark
# ARGV[1] our mark  ARGV[2] milliseconds that it shall last from now, 0 frees it
_HOLD = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token; its text shows nowhere by accident."""

    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """How many seconds ago the token was asked for, None when a former version fetched it, and how long it lives."""

    age_seconds: float | None
    left_seconds: float


class _LockLostError(Exception):
    """Another process may be fetching, so this one makes no call under its permit."""


class TokenCache:
    """One token for all processes that share a Redis and a `key_prefix`; any number of threads may call it.

    `fetch` mints one (value, lifetime in seconds) within 25 s, inside `permit`, which is entered only for that and may
    wait for leave to call. Both may raise errors of `workers.errors`.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        key_prefix: str,
        fetch: Callable[[], tuple[str, float]],
        permit: Callable[[], AbstractContextManager[object]] = nullcontext,
        wait_seconds: float = 30.0,
    ) -> None:
        self._redis = client
        self._key = f"{key_prefix}:token"
        self._lock_key = f"{key_prefix}:token-lock"
        self._fetch = fetch
        self._permit = permit
        self._wait_seconds = wait_seconds

    def get(self) -> AccessToken:
        """A token that lives; fetches one when it has less than 60 s left, or half of a lifetime under 120 s.

        One process fetches while the others go on with the old one, or, without one, wait for at most `wait_seconds`.
        Raises what `fetch` and `permit` raise, and Retryable when Redis is down or the wait was in vain.
        """
        try:
            return self._get()
        except redis.RedisError as error:
            raise _redis_is_down(error) from None

    def reject(self, token: AccessToken) -> None:
        """Forgets a token that was answered with 401, unless a newer one has taken its place; safe to repeat."""
        try:
            self._redis.eval(_FORGET, 1, self._key, token.value)
        except redis.RedisError as error:
            raise _redis_is_down(error) from None

    def times(self) -> TokenTimes | None:
        """How old the cached token is, None when there is none; raises Retryable when Redis is down."""
        try:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.hget(self._key, "lifetime_ms")
                pipe.pttl(self._key)
                lifetime_ms, left_ms = pipe.execute()
        except redis.RedisError as error:
            raise _redis_is_down(error) from None
        if left_ms < 0:
            return None
        age = None if lifetime_ms is None else (int(lifetime_ms) - left_ms) / 1000
        return TokenTimes(age, left_ms / 1000)

    def _get(self) -> AccessToken:
        give_up_at = time.monotonic() + self._wait_seconds
        mark = secrets.token_hex(16)
        while True:
            token, fresh = self._read()
            if token and fresh:
                return token
            if self._redis.set(self._lock_key, mark, nx=True, px=int(LOCK_SECONDS * 1000)):
                refreshed = self._refresh(mark)
                if refreshed:
                    return refreshed
            elif token:
                return token
            if time.monotonic() >= give_up_at:
                raise Retryable(
                    f"No process fetched an access token within {self._wait_seconds:g} s; trying again later."
                )
            time.sleep(SLICE_SECONDS)

    def _refresh(self, mark: str) -> AccessToken | None:
        """As holder of the lock: the new token, or the old one when it lives and fetching failed for now.

        None when the lock ran out while `permit` waited: somebody else may be at it.
        """
        old, fresh = self._read()
        pause = 0.0
        try:
            if old and fresh:
                return old
            value, lifetime = self._mint(mark)
        except _LockLostError:
            return None
        except BaseException as error:
            # The lock stays for a moment, so that those who wait don't all ask an API that is in trouble.
            pause = _pause_after(error)
            if not isinstance(error, Retryable) or (old := self._read()[0]) is None:
                raise
            log.warning("token_refresh_failed", error=type(error).__name__, pause_seconds=pause)
            return old
        finally:
            self._hold(mark, pause)
        log.info("token_refreshed", lifetime_seconds=lifetime)
        return AccessToken(value)

    def _mint(self, mark: str) -> tuple[str, float]:
        """A new token and its lifetime, stored; raises _LockLostError when the lock ran out before a permit came."""
        with self._permit():
            if not self._hold(mark, LOCK_SECONDS):
                raise _LockLostError
            began = time.monotonic()
            value, lifetime = self._fetch()
        self._store(value, lifetime, spent=time.monotonic() - began)
        return value, lifetime

    def _read(self) -> tuple[AccessToken | None, bool]:
        """The cached token and whether it may stay; times are the Redis server's."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(self._key, "value", "refresh_ms")
            pipe.pttl(self._key)
            (value, refresh_ms), left_ms = pipe.execute()
        if value is None or refresh_ms is None:
            return None, False
        return AccessToken(_text(value)), left_ms > int(refresh_ms)

    def _store(self, value: str, lifetime: float, *, spent: float) -> None:
        """Keeps it for its lifetime, counted from before it was asked for."""
        lifetime = min(lifetime, LONGEST_LIFETIME_SECONDS)
        refresh_ms = int(min(REFRESH_BEFORE_SECONDS, lifetime / 2) * 1000)
        left_ms = int((lifetime - spent) * 1000)
        if left_ms <= 0:
            return
        with self._redis.pipeline(transaction=True) as pipe:
            kept: dict[Any, Any] = {"value": value, "refresh_ms": refresh_ms, "lifetime_ms": int(lifetime * 1000)}
            pipe.hset(self._key, mapping=kept)
            pipe.pexpire(self._key, left_ms)
            pipe.execute()

    def _hold(self, mark: str, seconds: float) -> bool:
        """Makes our lock last so long from now, none to free it; false when it is no longer ours."""
        return bool(self._redis.eval(_HOLD, 1, self._lock_key, mark, str(int(seconds * 1000))))


def _pause_after(error: BaseException) -> float:
    wanted = error.retry_after_seconds if isinstance(error, Retryable) else None
    return min(max(wanted or 0.0, PAUSE_AFTER_FAILURE_SECONDS), LOCK_SECONDS)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _redis_is_down(error: redis.RedisError) -> Retryable:
    return Retryable(
        f"The access token can't be looked up, Redis does not answer ({type(error).__name__}); "
        "nothing is sent until it does: check RETROSCRIBE_REDIS_URL."
    )
