"""The Celery app of every process: `celery -A workers.app`."""

import os
import signal
import warnings
from typing import Any, Final

from celery import Celery, signals

from config.celery_settings import celery_settings
from config.logging import configure_logging
from config.settings import load_settings
from workers import kombu_fix

#: After a call of 25 s its answer is still written down; orchestrators kill 30 s after their SIGTERM.
STOP_SECONDS: Final = 28

settings = load_settings()
kombu_fix.apply()
app = Celery("retroscribe", task_cls="workers.base:BaseTask", events="workers.consumer:Events")
app.conf.update(celery_settings(settings))


@signals.worker_init.connect
def _prepare_worker(**_: object) -> None:
    """Builds the resources before the first tasks, whose threads would each build their own, deaf to the stop."""
    from workers.resources import get_resources  # noqa: PLC0415 built by the process that works, not by each sender

    get_resources()
    # Ten lines at each loss of the broker, about a choice that celery_settings makes.
    warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced an optional breaking change")


@signals.worker_shutting_down.connect
def _stop(**_: object) -> None:
    """Whoever waits for a permit gives its message back now: only calls under way are waited for.

    What still runs when they are over waits for a broker that is away or frozen, in Celery's main thread too, and
    could do so for ever. It is disposable, the ledger has everything.
    """
    from workers.resources import get_resources  # noqa: PLC0415 built already

    stopping = get_resources().stopping
    if not stopping.is_set():
        stopping.set()
        signal.signal(signal.SIGALRM, _end)
        signal.alarm(STOP_SECONDS)


@signals.worker_shutdown.connect
def _count_the_last_calls(**_: object) -> None:
    """Else a deploy would leave out of the metrics what was called within the last second."""
    from workers.resources import get_resources  # noqa: PLC0415 built already

    get_resources().calls.close()


@signals.worker_shutdown.connect
def _tell_how_it_ended(sender: Any, **_: object) -> None:
    """Celery's `worker_main` drops the exit code: a supervisor would take a worker that failed for one that is done."""
    if sender.exitcode:
        raise SystemExit(sender.exitcode)


@signals.beat_init.connect
def _prepare_beat(**_: object) -> None:
    """It has nothing to finish; of Celery's handler it lives on, if redis-py loses the SystemExit that this raises."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    # It sends something each second.
    signals.after_task_publish.connect(_show_alive)


@signals.setup_logging.connect
def _log_as_we_do(**_: object) -> None:
    configure_logging(settings.log_format, audit=settings.home / "audit.jsonl")


def _show_alive(**_: object) -> None:
    if settings.alive_file is not None:
        settings.alive_file.touch()


# A heartbeat comes each 2 s from the loop that takes messages, and not while the broker is away or the loop hangs.
signals.heartbeat_sent.connect(_show_alive)


def _end(number: int, _: object) -> None:
    if number == signal.SIGALRM:
        os.write(2, b"The worker ends although its broker does not answer; nothing is lost.\n")
    os._exit(0)
