"""Those who submit: each is made ready, with all its work waiting, and then let go at once."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import redis
from celery import Celery

from benchmarks.limiter import plain
from benchmarks.limiter.api import Api
from benchmarks.limiter.backlog import HELD
from benchmarks.limiter.runs import OURS, PLAIN, SCRIPT, Run
from benchmarks.limiter.stage import Stage
from config import queues
from config.urls import kombu_url
from workers.stack.valkey import valkey_child

LetGo = Callable[[], None]


def _ours(run: Run, stage: Stage, api: Api) -> LetGo:
    """Pipeline workers as `retroscribe up` starts them, with the pump and the sweep beside them."""
    socket = _broker(stage)
    settings = {
        **api.env,
        "RETROSCRIBE_HOME": str(stage.folder),
        "RETROSCRIBE_REDIS_URL": f"unix://{socket}",
        "RETROSCRIBE_SUBMIT_LIMIT": str(run.rate),
    }
    stage.call("benchmarks.limiter.backlog", _file(stage, "media-ids", api.media_ids), env=settings)
    command = "workers.cli.main"
    for number in range(run.processes):
        stage.python(f"worker {number + 1}", command, "worker", "--role", "pipeline", env=settings)
    stage.python("control", command, "worker", "--role", "control", env=settings)
    stage.python("beat", command, "beat", env=settings)
    wait_for_consumers(stage, socket, [queues.SUBMIT] * run.processes + [queues.CONTROL])
    return lambda: _let_go(socket, queues.SUBMIT)


def _plain(run: Run, stage: Stage, api: Api) -> LetGo:
    """Workers with Celery's own defaults, two child processes each, that share the limit by `rate_limit`."""
    socket = _broker(stage)
    url = kombu_url(f"unix://{socket}")
    settings = {
        plain.BROKER: url,
        plain.API: api.url,
        plain.TOKEN: api.token(),
        plain.RATE: f"{run.rate / run.processes:g}/s",
    }
    with Celery(broker=url, set_as_current=False) as sender, sender.connection_for_write() as connection:
        sender.conf.task_ignore_result = True
        with sender.amqp.Producer(connection) as producer:
            for media_id in api.media_ids:
                sender.send_task(plain.TASK, args=[media_id], queue=plain.QUEUE, producer=producer)
    with redis.Redis(unix_socket_path=str(socket)) as server:
        server.rename(plain.QUEUE, HELD)
    for number in range(run.processes):
        options = ["--concurrency=2", f"--hostname=plain{number + 1}@%h", "--loglevel=WARNING"]
        stage.python(
            f"plain {number + 1}", "celery", "-A", "benchmarks.limiter.plain", "worker", *options, env=settings
        )
    wait_for_consumers(stage, socket, [plain.QUEUE] * run.processes)
    return lambda: _let_go(socket, plain.QUEUE)


def _script(run: Run, stage: Stage, api: Api) -> LetGo:
    """One thread a process; each has its part of the list."""
    start = stage.folder / "start"
    token = api.token()
    for number in range(run.processes):
        part = _file(stage, f"media-ids-{number + 1}", api.media_ids[number :: run.processes])
        name = f"script {number + 1}"
        stage.python(name, "benchmarks.limiter.script", api.url, token, part, str(start), env={})
        stage.wait_for(lambda name=name: "ready" in stage.said(name), f"The start of {name}")  # type: ignore[misc]
    return start.touch


CONTENDERS: Final[dict[str, Callable[[Run, Stage, Api], LetGo]]] = {OURS: _ours, PLAIN: _plain, SCRIPT: _script}


def _broker(stage: Stage) -> Path:
    """The socket of a Valkey server that keeps what it gets, as the embedded one does."""
    socket = stage.folder / "valkey.sock"
    child = valkey_child(stage.folder, socket, stage=0)
    stage.start(child)
    ready = child.ready
    assert ready is not None  # noqa: S101 for the type checker
    stage.wait_for(ready, "The start of Valkey")
    return socket


def wait_for_consumers(stage: Stage, socket: Path, wanted: list[str]) -> None:
    """Returns once as many workers consume each queue as it is there."""
    with Celery(broker=kombu_url(f"unix://{socket}"), set_as_current=False) as asking:

        def consumed() -> bool:
            answers = asking.control.inspect(timeout=0.5).active_queues() or {}
            found = [queue["name"] for worker in answers.values() for queue in worker]
            return all(found.count(name) >= wanted.count(name) for name in wanted)

        stage.wait_for(consumed, "The start of the workers")


def _let_go(socket: Path, queue: str) -> None:
    """Puts all messages that were held back into the queue, at one moment."""
    with redis.Redis(unix_socket_path=str(socket)) as server:
        server.rename(HELD, queue)


def _file(stage: Stage, name: str, lines: Iterable[str]) -> str:
    path = stage.folder / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)
