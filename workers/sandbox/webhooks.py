"""Delivers events to the URIs that submissions named."""

import asyncio
import sys
from collections.abc import Coroutine

import httpx
import structlog

from workers.sandbox.events import Delivery
from workers.sandbox.signing import Sign
from workers.sandbox.stats import Stats

# httpcore 1 imports sniffio for each lock it makes, about ten a request, and where it is not installed each of these
# searches the whole path: a third of a delivery's time. None says at once that it is not there, and means asyncio.
# Can go when httpcore._synchronization.current_async_library imports it once.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

log = structlog.get_logger(__name__)

ANSWER_WITHIN_SECONDS = 2.0
BACKOFF_SECONDS = (1.0, 2.0, 4.0)
MAX_CONCURRENT = 16
# Less than the 5 s that servers usually keep an idle connection, so that none is closed under a request.
KEEP_ALIVE_SECONDS = 2.0


class WebhookSender:
    """One HTTP client for all deliveries, at most 16 at a time; `async with` ends those under way."""

    def __init__(self, stats: Stats, sign: Sign) -> None:
        self._stats = stats
        self._sign = sign
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._deliveries: set[asyncio.Task[None]] = set()
        limits = httpx.Limits(
            max_connections=MAX_CONCURRENT,
            max_keepalive_connections=MAX_CONCURRENT,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
        )
        # Neither proxies nor .netrc of the environment may come between the sandbox and a local receiver.
        self._client = httpx.AsyncClient(limits=limits, timeout=ANSWER_WITHIN_SECONDS, trust_env=False)

    async def __aenter__(self) -> "WebhookSender":
        return self

    async def __aexit__(self, *_: object) -> None:
        for delivery in self._deliveries:
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await self._client.aclose()

    def send(self, deliveries: list[Delivery]) -> None:
        """Starts one delivery after the other, the next one as soon as the first try of the one before is over.

        Each is tried at once and, unless answered 200 or 204 within 2 s, after 1, 2 and 4 s again.
        """
        self._start(self.send_and_wait(deliveries))

    async def send_and_wait(self, deliveries: list[Delivery]) -> None:
        """As `send`, but returns only after the first tries."""
        for uri, body in deliveries:
            if not await self._try(uri, body):
                self._start(self._retry(uri, body))

    def _start(self, delivery: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(delivery)
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _retry(self, uri: str, body: bytes) -> None:
        for seconds in BACKOFF_SECONDS:
            await asyncio.sleep(seconds)
            if await self._try(uri, body):
                return
        self._stats.webhooks_failed += 1
        log.warning("webhook_given_up", host=httpx.URL(uri).host, tries=1 + len(BACKOFF_SECONDS))

    async def _try(self, uri: str, body: bytes) -> bool:
        async with self._slots:
            self._stats.webhook_attempts += 1
            headers = {"Content-Type": "application/json", **self._sign(body)}
            try:
                async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                    answer = await self._client.post(uri, content=body, headers=headers)
            except (httpx.HTTPError, TimeoutError):
                return False
        delivered = answer.status_code in (200, 204)
        self._stats.webhooks_delivered += delivered
        return delivered
