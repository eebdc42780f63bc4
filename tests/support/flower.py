"""A Flower's pages, as somebody sees them who has the password."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from tests.support.eventually import eventually
from tests.support.sandbox import NO_TLS

USER: Final = ("reader", "a password")


class Flower:
    """The pages of a Flower whose setting FLOWER_BASIC_AUTH is USER."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def find(self, search: str, *, most: int = 500) -> list[dict[str, Any]]:
        """The tasks that the search box finds."""
        query = {"draw": 1, "start": 0, "length": most, "search[value]": search, "order[0][column]": 0}
        answer = self.http.get("/tasks/datatable", params={**query, "columns[0][data]": "received"}, auth=USER)
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return found

    def results(self, search: str) -> set[tuple[str, str]]:
        """The names and results of those that have ended."""
        return {(task["name"], task["result"]) for task in self.find(search) if task["state"] == "SUCCESS"}


@contextmanager
def flower_at(port: int) -> Iterator[Flower]:
    """Waits until the Flower on this port of ours answers."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=NO_TLS, trust_env=False, timeout=20) as http:
        eventually(lambda: _answers(http), timeout=60, what="Flower")
        yield Flower(http)


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthcheck").is_success
    except httpx.HTTPError:
        return False
