"""The sandbox fails in the ways it is told to, and counts as accepted exactly what it would charge."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.sandbox import Sandbox
from tests.support.sandbox_calls import GOOD, SUBMIT, WebhookReceiver, body, client, finished, mint, submit

MEDIA = "/api/v2/media"
MIX = {"submit_status": {"500": 0.2, "429": 0.2}, "accept_then": {"502": 0.3}, "webhooks": {"lost": 0.5}}


@pytest.fixture(scope="module")
def api(shared_sandbox: Sandbox) -> Iterator[httpx.Client]:
    with client(shared_sandbox, mint(shared_sandbox).json()["access_token"]) as api:
        yield api


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.close()


class TestNotAccepted:
    @pytest.mark.parametrize("status", [403, 500, 503])
    def test_submit_status_is_answered_without_accepting_and_count_limits_it(
        self, sandbox: Sandbox, api: httpx.Client, status: int
    ) -> None:
        sandbox.faults(submit_status=status, count=1)
        assert [api.post(SUBMIT, json=body(GOOD[7])).status_code for _ in range(2)] == [status, 202]
        stats = sandbox.stats()
        assert stats["accepted"] == {GOOD[7]: 1}
        assert stats["faults_used"] == {f"submit_status={status}": 1}

    def test_403_names_the_missing_scope(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(submit_status=403, media_status=403)
        refused = [api.post(SUBMIT, json=body(GOOD[7])), api.get(f"{MEDIA}/{GOOD[7]}")]
        assert {answer.json()["code"] for answer in refused} == {"missing.any.permissions"}
        assert [answer.json()["message"].split()[-1] for answer in refused] == [
            "media:transcription:write",
            "media:media:read",
        ]

    @pytest.mark.parametrize(
        ("told", "header"), [({}, "1"), ({"retry_after": 42}, "42"), ({"retry_after": "missing"}, None)]
    )
    def test_a_forced_429_is_counted_and_its_retry_after_is_as_told(
        self, sandbox: Sandbox, api: httpx.Client, told: dict[str, object], header: str | None
    ) -> None:
        sandbox.faults(submit_status=429, **told)
        answer = api.post(SUBMIT, json=body(GOOD[7]))
        assert (answer.status_code, answer.headers.get("Retry-After")) == (429, header)
        assert answer.json()["code"] == "too.many.requests.retry.after"
        stats = sandbox.stats()
        assert (stats["rejected_429_by_class"], stats["accepted"]) == ({"submit": 1}, {})

    def test_the_limit_s_own_429_can_lack_retry_after_too(self) -> None:
        limited = Sandbox(rate=0.1, faults={"retry_after": "missing"})
        with limited, client(limited, mint(limited).json()["access_token"]) as api:
            _, refused = (api.post(SUBMIT, json={}) for _ in range(2))
        assert refused.status_code == 429
        assert "Retry-After" not in refused.headers

    def test_media_status_and_token_status(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(media_status=500, token_status=401)
        assert api.get(f"{MEDIA}/{GOOD[0]}").status_code == 500
        assert mint(sandbox).status_code == 401

    def test_revoked_tokens_are_401_and_new_ones_work(self) -> None:
        with Sandbox() as fresh:
            with client(fresh, mint(fresh).json()["access_token"]) as api:
                fresh.faults(revoke_tokens=True)
                assert api.get(f"{MEDIA}/{GOOD[0]}").status_code == 401
            with client(fresh, mint(fresh).json()["access_token"]) as api:
                assert api.get(f"{MEDIA}/{GOOD[0]}").status_code == 200
                fresh.faults(revoke_tokens={"true": 1}, count=1)
                assert [api.post(SUBMIT, json=body(GOOD[0])).status_code for _ in range(2)] == [401, 401]
            assert fresh.totals()["faults_used"] == {"revoke_tokens=true": 2}
            assert fresh.totals()["accepted_total"] == 0


class TestNoAnswer:
    @pytest.mark.parametrize(
        ("fault", "accepted"), [({"submit_then": "hang"}, {}), ({"accept_then": "hang"}, {GOOD[12]: 1})]
    )
    def test_a_hanging_call_is_never_answered(
        self, sandbox: Sandbox, api: httpx.Client, fault: dict[str, object], accepted: dict[str, int]
    ) -> None:
        sandbox.faults(**fault)
        with pytest.raises(httpx.ReadTimeout):
            api.post(SUBMIT, json=body(GOOD[12]), timeout=0.3)
        assert sandbox.stats()["accepted"] == accepted

    def test_a_connection_cut_before_accepting_is_not_accepted(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(submit_then="cut", count=1)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            api.post(SUBMIT, json=body(GOOD[12]))
        assert sandbox.stats()["accepted"] == {}

    def test_a_connection_cut_after_accepting_counts_as_accepted(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        sandbox.faults(accept_then="cut", count=1)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            api.post(SUBMIT, json=body(GOOD[13], receiver))
        eventually(lambda: receiver.bodies, 5)
        assert sandbox.stats()["accepted"] == {GOOD[13]: 1}

    def test_slow_seconds_delays_the_answer_not_the_acceptance(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(slow_seconds=1)
        with pytest.raises(httpx.ReadTimeout):
            api.post(SUBMIT, json=body(GOOD[14]), timeout=0.2)
        assert sandbox.stats()["accepted"] == {GOOD[14]: 1}


class TestAccepted:
    @pytest.mark.parametrize(("told", "status"), [("502", 502), ("no_id", 202)])
    def test_an_answer_without_an_id_counts_as_accepted(
        self, sandbox: Sandbox, api: httpx.Client, told: str, status: int
    ) -> None:
        sandbox.faults(accept_then=told, count=1)
        answer = api.post(SUBMIT, json=body(GOOD[12]))
        assert answer.status_code == status
        assert "transcriptionId" not in answer.json()
        assert sandbox.stats()["accepted"] == {GOOD[12]: 1}

    def test_a_repeated_key_can_be_deduplicated_and_is_then_accepted_once(
        self, sandbox: Sandbox, api: httpx.Client, receiver: WebhookReceiver
    ) -> None:
        key = {"Idempotency-Key": "once"}
        sandbox.faults(accept_then="502", idempotency="deduplicated", count=1)
        lost = api.post(SUBMIT, json=body(GOOD[16], receiver), headers=key)
        repeated = api.post(SUBMIT, json=body(GOOD[16], receiver), headers=key)
        other = api.post(SUBMIT, json=body(GOOD[17]), headers=key)
        assert [lost.status_code, repeated.status_code, other.status_code] == [502, 202, 409]
        assert finished(api, repeated.json()["transcriptionId"])["result"]["mediaId"] == GOOD[16]
        stats = sandbox.stats()
        assert (stats["accepted"], stats["idempotency_keys"]) == ({GOOD[16]: 1}, {"once": 1})
        assert (stats["deduplicated"], stats["accepted_twice"], stats["idempotency_keys_twice"]) == (1, 0, 0)


class TestStatusRoute:
    @pytest.mark.parametrize(
        ("fault", "status"),
        [
            ({"status_route": "missing"}, 404),
            ({"status_route": "method_not_allowed"}, 405),
            ({"status_status": 503}, 503),
        ],
    )
    def test_a_known_id_is_answered_as_told(
        self, sandbox: Sandbox, api: httpx.Client, fault: dict[str, object], status: int
    ) -> None:
        transcription_id = submit(api, GOOD[15])
        sandbox.faults(**fault)
        assert api.get(f"{SUBMIT}/{transcription_id}").status_code == status


class TestShares:
    def test_they_hit_the_same_recordings_in_any_order_and_in_another_process(
        self, sandbox: Sandbox, api: httpx.Client
    ) -> None:
        sandbox.faults(**MIX)
        first = outcomes(api, GOOD[:60])
        stats = sandbox.totals()
        sandbox.faults(**MIX)
        backwards = outcomes(api, GOOD[59::-1])
        with Sandbox(faults=MIX, rate=1000) as other, client(other, mint(other).json()["access_token"]) as other_api:
            elsewhere = outcomes(other_api, GOOD[:60])
            other_stats = other.totals()
        assert first == backwards == elsewhere
        assert stats["faults_used"] == other_stats["faults_used"]
        assert {*first.values()} == {202, 429, 500, 502}

    def test_every_fault_is_counted_and_so_is_every_acceptance(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(**MIX)
        answers = list(outcomes(api, GOOD[:60]).values())
        stats = sandbox.totals()
        used = stats["faults_used"]
        assert used["submit_status=500"] == answers.count(500)
        assert used["submit_status=429"] == answers.count(429) == stats["rejected_429"]
        assert used["accept_then=502"] == answers.count(502)
        assert 0 < used["webhooks=lost"] < stats["accepted_total"]
        assert stats["accepted_total"] == answers.count(202) + answers.count(502)
        assert stats["accepted_twice"] == 0

    def test_a_repeat_about_the_same_recording_is_drawn_anew(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(submit_status={"500": 0.5})
        assert {api.post(SUBMIT, json=body(GOOD[0])).status_code for _ in range(20)} == {202, 500}

    def test_count_is_used_up_only_by_requests_that_are_hit(self, sandbox: Sandbox, api: httpx.Client) -> None:
        sandbox.faults(submit_status={"500": 0.5}, count=3)
        answers = list(outcomes(api, GOOD[:60]).values())
        assert (answers.count(500), answers.count(202)) == (3, 57)
        assert api.get("/_sandbox/faults").json() == {}


class TestSwitching:
    @pytest.mark.parametrize(
        "wanted",
        [
            {"nonsense": 1},
            {"webhooks": "never"},
            {"webhooks": {"never": 0.5}},
            {"webhooks": {"lost": 0.6, "early": 0.5}},
            {"webhooks": {"lost": True}},
            {"webhooks": {}},
            {"idempotency": {"deduplicated": 0.5}},
            {"submit_status": 200},
            {"submit_status": {"200": 0.5}},
            {"late_seconds": -1},
            {"count": 0},
            [],
        ],
    )
    def test_an_unknown_fault_is_400_and_leaves_the_others(
        self, sandbox: Sandbox, api: httpx.Client, wanted: object
    ) -> None:
        sandbox.faults(media_status=500, webhooks={"lost": 0.5}, count=3)
        answer = api.put("/_sandbox/faults", json=wanted)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("The fault")
        assert api.get("/_sandbox/faults").json() == {"media_status": 500, "webhooks": {"lost": 0.5}, "count": 3}

    def test_what_is_shown_can_be_put_again(self, sandbox: Sandbox, api: httpx.Client) -> None:
        wanted: dict[str, Any] = {
            **MIX,
            "retry_after": 42,
            "late_seconds": 1.5,
            "idempotency": "deduplicated",
            "count": 9,
        }
        sandbox.faults(**wanted, status_route="normal")
        assert api.get("/_sandbox/faults").json() == wanted


def outcomes(api: httpx.Client, media_ids: list[str]) -> dict[str, int]:
    """The status that each submission is answered with."""
    return {media_id: api.post(SUBMIT, json=body(media_id)).status_code for media_id in media_ids}
