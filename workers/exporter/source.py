"""One place that is asked for figures, at its own pace: scrapes neither load it nor wait for it when it hangs."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Metric

from workers.errors import RetroscribeError

log = structlog.get_logger(__name__)

#: What was found is told that long before the place is asked again, and longer where asking takes long:
KEPT_SECONDS: Final = 5.0
#: asking takes at most one part in so many of the time.
ONE_IN: Final = 20
FAILURE_KEPT_SECONDS: Final = 2.0
#: What is older than this is no longer told while the place does not answer.
STALE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a place told, at `at` (`time.monotonic()`), and how many seconds it took."""

    metrics: Sequence[Metric]
    at: float
    took_seconds: float


class Source:
    """Asks when somebody wants to know, in a thread of its own and one at a time."""

    def __init__(self, name: str, look: Callable[[], Iterable[Metric]]) -> None:
        self.name = name
        self._look = look
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._found: Found | None = None
        self._ask_from = 0.0
        self._is_away = False

    def begin(self) -> None:
        """Asks, unless what was found is fresh or the answer is still on its way."""
        with self._lock:
            if self._idle.is_set() and time.monotonic() >= self._ask_from:
                self._idle.clear()
                threading.Thread(target=self._ask, name=f"ask-{self.name}", daemon=True).start()

    def latest(self, wait_seconds: float) -> Found | None:
        """What it told last, None when it is away; waits at most so long for what is on its way."""
        self._idle.wait(max(0.0, wait_seconds))
        found = self._found
        return found if found is not None and time.monotonic() - found.at < STALE_SECONDS else None

    def _ask(self) -> None:
        began = time.monotonic()
        try:
            metrics = list(self._look())
        except Exception as error:  # noqa: BLE001 whatever is away, the other figures are told
            self._found, self._ask_from = None, time.monotonic() + FAILURE_KEPT_SECONDS
            self._say_away(error)
        else:
            now = time.monotonic()
            self._found = Found(metrics, now, now - began)
            self._ask_from = now + max(KEPT_SECONDS, ONE_IN * (now - began))
            self._is_away = False
        finally:
            self._idle.set()

    def _say_away(self, error: Exception) -> None:
        """Once, not with each scrape; an unforeseen error's text may hold anything."""
        if not self._is_away:
            why = str(error) if isinstance(error, RetroscribeError) else type(error).__name__
            log.warning("metrics_source_away", source=self.name, why=why)
        self._is_away = True
