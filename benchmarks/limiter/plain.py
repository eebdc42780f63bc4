"""The Celery app that most would write: `rate_limit` a worker, and retries with backoff and jitter on a 429."""

import os
from functools import cache
from typing import Final

import httpx
from celery import Celery

BROKER, API, TOKEN, RATE = "PLAIN_BROKER", "PLAIN_API", "PLAIN_TOKEN", "PLAIN_RATE"
TASK: Final = "submit"
QUEUE: Final = "submit"

app = Celery("plain", broker=os.environ.get(BROKER))
app.conf.update(task_default_queue=QUEUE, task_ignore_result=True, broker_connection_retry_on_startup=True)


class TooManyRequests(Exception):
    """The API answered 429."""


@app.task(
    name=TASK,
    rate_limit=os.environ.get(RATE),
    autoretry_for=(TooManyRequests,),
    retry_backoff=True,
    retry_jitter=True,
    max_retries=None,
)
def submit(media_id: str) -> None:
    """Submits one recording."""
    answer = _client().post("/api/v2/media/transcriptions", json={"mediaId": media_id, "languages": ["en-US"]})
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise TooManyRequests
    answer.raise_for_status()


@cache
def _client() -> httpx.Client:
    headers = {"Authorization": f"Bearer {os.environ[TOKEN]}"}
    return httpx.Client(base_url=os.environ[API], headers=headers, trust_env=False)
