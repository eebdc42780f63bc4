"""What a sandbox tells of its limit over HTTP, and how the limit is changed and shared while it runs."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD, SUBMIT, body, client, mint, submit

TOLD = ("inin-ratelimit-count", "inin-ratelimit-allowed", "inin-ratelimit-reset")


@pytest.fixture(scope="module")
def by_minute() -> Iterator[Sandbox]:
    with Sandbox(limiter="minute", rate=1) as server:
        yield server


@pytest.fixture(scope="module")
def caller(by_minute: Sandbox) -> Iterator[httpx.Client]:
    with client(by_minute, mint(by_minute).json()["access_token"]) as api:
        yield api


@pytest.fixture
def minute(by_minute: Sandbox) -> Sandbox:
    """60 submissions a minute, of which none is used."""
    by_minute.limit(1)
    by_minute.reset()
    return by_minute


def told(answer: httpx.Response) -> list[int]:
    return [int(answer.headers[name]) for name in TOLD if name in answer.headers]


class TestTold:
    @pytest.mark.usefixtures("minute")
    def test_each_answer_that_is_no_error_tells_of_the_minute_of_its_class(self, caller: httpx.Client) -> None:
        accepted = [caller.post(SUBMIT, json=body(GOOD[0])) for _ in range(2)][-1]
        media = caller.get(f"/api/v2/media/{GOOD[0]}")
        status = caller.get(f"{SUBMIT}/{accepted.json()['transcriptionId']}")
        refused = caller.post(SUBMIT, json={})
        assert [told(answer)[:2] for answer in (accepted, media, status)] == [[2, 60], [1, 120], [1, 60]]
        assert 1 <= told(accepted)[2] <= 60
        assert (refused.status_code, told(refused)) == (400, [])

    def test_a_429_of_a_minute_says_when_the_minute_is_over(self, minute: Sandbox, caller: httpx.Client) -> None:
        minute.limit(0.05)
        answers = [caller.post(SUBMIT, json=body(GOOD[0])) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
        assert 1 <= int(answers[3].headers["Retry-After"]) <= told(answers[2])[2]


class TestChanges:
    def test_a_new_rate_holds_at_once(self, minute: Sandbox, caller: httpx.Client) -> None:
        minute.limit(0.1)
        first = caller.post(SUBMIT, json=body(GOOD[0]))
        minute.limit(20)
        second = caller.post(SUBMIT, json=body(GOOD[0]))
        assert [told(first)[:2], told(second)[:2]] == [[1, 6], [2, 1200]]
        assert caller.get("/_sandbox/limits").json() == {"limiter": "minute", "rate": 20}

    def test_a_neighbour_uses_up_the_limit_and_is_shown_in_the_series(
        self, minute: Sandbox, caller: httpx.Client
    ) -> None:
        minute.limit(100)
        minute.reset()
        submit(caller, GOOD[0])
        minute.neighbour(0.5, seconds=60)
        assert caller.get("/_sandbox/neighbour").json() == {"shares": [0.5], "seconds": 60, "share": 0.5}
        series = eventually(lambda: (found := minute.series())["neighbour"][-1:] == [50] and found)
        assert series["available"][-1] == 50
        assert sum(series["passed"]) == 1
        assert told(caller.post(SUBMIT, json=body(GOOD[0])))[0] > 50

    @pytest.mark.parametrize(
        ("path", "wanted", "problem"),
        [
            ("limits", {"rate": 0}, "rate: must be a number more than 0 up to 100000"),
            ("limits", {"rate": True}, "rate: "),
            ("limits", {}, "body: must be a JSON object with rate"),
            ("limits", [6], "body: "),
            ("neighbour", {"shares": [0.5, 1.5], "seconds": 9}, "shares[1]: must be a number from 0 up to 1"),
            ("neighbour", {"shares": 0.5, "seconds": 9}, "shares: "),
            ("neighbour", {"shares": [0.5, 0.1], "seconds": 1801}, "seconds: "),
            ("neighbour", {"shares": [0.5]}, "body: must be a JSON object with shares and seconds"),
        ],
    )
    def test_what_can_not_be_set_is_400_and_named(
        self, caller: httpx.Client, path: str, wanted: Any, problem: str
    ) -> None:
        answer = caller.put(f"/_sandbox/{path}", json=wanted)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith(problem)
