"""The sandbox keeps the wire contract and its limits, and stops when told."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.command import run_command
from tests.support.eventually import eventually
from tests.support.sandbox import HOUSE, Sandbox
from tests.support.sandbox_calls import EVENTS, GOOD, MISSING, ODD, SUBMIT, body, client, finished, mint, submit


@pytest.fixture(scope="module")
def api(shared_sandbox: Sandbox) -> Iterator[httpx.Client]:
    with client(shared_sandbox, mint(shared_sandbox).json()["access_token"]) as api:
        yield api


class TestTokens:
    def test_wrong_credentials_are_401_with_error_and_description(self, sandbox: Sandbox) -> None:
        answer = mint(sandbox, client_secret="wrong")
        assert answer.status_code == 401
        assert set(answer.json()) == {"error", "description"}

    def test_only_known_scopes_are_granted_and_a_missing_one_is_403(self, sandbox: Sandbox) -> None:
        answer = mint(sandbox, scope="media:media:read something:else")
        assert answer.json()["expires_in"] == 3600
        with client(sandbox, answer.json()["access_token"]) as reader:
            assert reader.get(f"/api/v2/media/{GOOD[0]}").status_code == 200
            refused = reader.post(SUBMIT, json=body(GOOD[0]))
        assert refused.status_code == 403
        assert "media:transcription:write" in refused.json()["message"]

    def test_a_wrong_token_is_401(self, sandbox: Sandbox) -> None:
        with client(sandbox, "wrong") as stranger:
            assert stranger.get(f"/api/v2/media/{GOOD[0]}").status_code == 401
            assert stranger.post(SUBMIT, json=body(GOOD[0])).status_code == 401

    def test_a_token_expires(self) -> None:
        with Sandbox(token_lifetime_seconds=1) as short, client(short, mint(short).json()["access_token"]) as api:
            eventually(lambda: api.get(f"/api/v2/media/{GOOD[0]}").status_code == 401, 5)


class TestContract:
    def test_media_has_id_format_codec_and_duration(self, api: httpx.Client) -> None:
        media = api.get(f"/api/v2/media/{GOOD[0]}").json()
        assert set(media) == {"id", "format", "codec", "duration"}
        assert media["id"] == GOOD[0]

    def test_a_missing_media_is_404_with_the_error_body(self, api: httpx.Client) -> None:
        answer = api.get(f"/api/v2/media/{MISSING[0]}")
        assert answer.status_code == 404
        assert set(answer.json()) == {"message", "code", "status", "contextId", "details", "errors"}
        assert answer.headers["ININ-Correlation-Id"] == answer.json()["contextId"]

    @pytest.mark.parametrize("path", ["/api/v2/nothing", "/_sandbox/stats", f"/api/v2/media/{GOOD[0]}", SUBMIT])
    def test_every_answer_has_a_correlation_id(self, api: httpx.Client, path: str) -> None:
        assert api.get(path).headers["ININ-Correlation-Id"]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"mediaId": MISSING[0]}, "mediaId"),
            ({"mediaId": 7}, "mediaId"),
            ({"languages": []}, "languages"),
            ({"languages": ["en-US", "not a tag"]}, "languages[1]"),
            ({"redactionPolicyId": None}, "redactionPolicyId"),
            ({"webhooks": [{"uri": "http://example.com/", "events": EVENTS}]}, "webhooks[0].uri"),
            ({"webhooks": [{"uri": "https://example.com/", "events": ["x"]}]}, "webhooks[0].events"),
            ({"settings": []}, "settings"),
            ({"extra": 1}, "extra"),
        ],
    )
    def test_a_wrong_field_is_400_and_named(
        self, sandbox: Sandbox, api: httpx.Client, changes: dict[str, Any], field: str
    ) -> None:
        answer = api.post(SUBMIT, json=body(GOOD[0], **changes))
        assert answer.status_code == 400
        assert answer.json()["message"].startswith(f"{field}: ")
        assert sandbox.stats()["accepted"] == {}

    def test_a_body_that_is_not_declared_as_json_is_400(self, api: httpx.Client) -> None:
        answer = api.post(SUBMIT, content=json.dumps(body(GOOD[0])), headers={"Content-Type": "text/plain"})
        assert answer.status_code == 400

    def test_an_accepted_submission_is_logged_with_its_idempotency_key(
        self, sandbox: Sandbox, api: httpx.Client
    ) -> None:
        for _ in range(2):
            answer = api.post(SUBMIT, json=body(GOOD[1]), headers={"Idempotency-Key": "k1"})
            assert answer.status_code == 202
        stats = sandbox.stats()
        assert stats["accepted"] == {GOOD[1]: 2}
        assert stats["idempotency_keys"] == {"k1": 2}
        assert stats["submits"] == 2
        assert (stats["accepted_total"], stats["accepted_twice"], stats["idempotency_keys_twice"]) == (2, 1, 1)
        assert stats["first_submit_at"] <= stats["last_submit_at"] <= time.time()

    def test_brief_stats_have_the_totals_and_no_entry_a_recording(self, sandbox: Sandbox, api: httpx.Client) -> None:
        submit(api, GOOD[1])
        whole, brief = sandbox.stats(), sandbox.totals()
        assert brief["accepted_total"] == 1
        assert whole.keys() - brief.keys() == {"accepted", "idempotency_keys"}

    def test_an_unknown_transcription_is_404(self, api: httpx.Client) -> None:
        assert api.get(f"{SUBMIT}/nothing").status_code == 404

    @pytest.mark.parametrize(("language", "word"), [("es-US", " "), ("de-DE", "ich"), ("ja-JP", "。")])
    def test_a_transcript_is_in_the_primary_language_and_ordered(
        self, api: httpx.Client, language: str, word: str
    ) -> None:
        data = finished(api, submit(api, GOOD[2], languages=[language, "en-US"]))
        segments = data["result"]["transcripts"]
        assert data["result"]["mediaId"] == GOOD[2]
        assert {segment["language"] for segment in segments} == {language}
        assert any(word in segment["text"] for segment in segments)
        assert [segment["speaker"] for segment in segments[:2]] == ["agent", "customer"]
        starts = [segment["startMs"] for segment in segments]
        assert starts == sorted(starts)
        assert all(0.60 <= segment["confidence"] <= 0.99 for segment in segments)

    def test_a_redaction_policy_redacts(self, api: httpx.Client) -> None:
        data = finished(api, submit(api, GOOD[3], redactionPolicyId="p1"))
        assert data["result"]["redacted"] is True
        assert any("[redacted]" in segment["text"] for segment in data["result"]["transcripts"])

    def test_the_same_seed_gives_the_same_ids_and_text(self, api: httpx.Client) -> None:
        first = finished(api, submit(api, GOOD[-1]))
        with Sandbox(processing_seconds=0) as other, client(other, mint(other).json()["access_token"]) as other_api:
            second = finished(other_api, submit(other_api, GOOD[-1]))
        assert first["transcriptionId"] == second["transcriptionId"]
        assert first["result"] == second["result"]

    def test_an_unusable_media_is_accepted_and_then_fails(self, api: httpx.Client) -> None:
        assert finished(api, submit(api, ODD[0]))["status"] == "failed"


class TestLimits:
    def test_a_429_comes_before_the_body_is_looked_at_and_each_class_has_its_own_limit(self) -> None:
        with Sandbox(rate=0.1) as slow, client(slow, mint(slow).json()["access_token"]) as api:
            first, second = (api.post(SUBMIT, json={}) for _ in range(2))
            media = api.get(f"/api/v2/media/{GOOD[0]}")
            stats = slow.stats()
        assert [first.status_code, second.status_code, media.status_code] == [400, 429, 200]
        assert 1 <= int(second.headers["Retry-After"]) <= 10
        assert second.json()["code"] == "too.many.requests.retry.after"
        assert stats["rejected_429"] == stats["rejected_429_by_class"]["submit"] == 1

    def test_shared_buckets_let_media_use_up_the_submissions(self) -> None:
        with Sandbox(rate=0.1, buckets="shared") as slow, client(slow, mint(slow).json()["access_token"]) as api:
            assert api.get(f"/api/v2/media/{GOOD[0]}").status_code == 200
            assert api.post(SUBMIT, json={}).status_code == 429


class TestProcess:
    def test_it_stops_within_three_seconds_with_calls_open_and_webhooks_to_retry(self) -> None:
        busy = Sandbox(processing_seconds=0)
        with busy, client(busy, mint(busy).json()["access_token"]) as api, ThreadPoolExecutor() as threads:
            submit(api, GOOD[0], webhooks=[{"uri": "http://127.0.0.1:9/", "events": EVENTS}])
            calls = []
            for fault in ({"slow_seconds": 60}, {"submit_then": "hang"}, {"accept_then": "hang"}):
                busy.faults(**fault)
                calls.append(threads.submit(api.post, SUBMIT, json=body(GOOD[1]), timeout=60))
                eventually(lambda: len(busy.totals()["faults_used"]) == len(calls), 5)
            started = time.monotonic()
            assert busy.stop() == 0
            assert time.monotonic() - started < 3
            assert all(isinstance(call.exception(), httpx.RemoteProtocolError) for call in calls)

    def test_wrong_faults_at_the_start_are_one_sentence_and_exit_code_2(self, tmp_path: Path) -> None:
        options = ("--limiter", "minute", "--faults", '{"webhooks": "never"}')
        ended = run_command("sandbox", *options, folder=tmp_path)
        assert ended.returncode == 2
        assert "The fault webhooks can't be" in " ".join(ended.stderr.split())
        assert "Traceback" not in ended.stderr

    def test_an_address_that_is_not_this_machine_s_is_one_sentence_and_exit_code_2(self, tmp_path: Path) -> None:
        ended = run_command("sandbox", "--host", "192.0.2.1", folder=tmp_path)
        assert ended.returncode == 2
        assert "The sandbox can't listen on 192.0.2.1 port 8900" in ended.stderr

    def test_a_port_in_use_is_one_sentence_and_exit_code_2(self, sandbox: Sandbox) -> None:
        port = sandbox.base_url.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "workers.sandbox", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, cwd=HOUSE)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert f"port {port}" in ended.stderr
