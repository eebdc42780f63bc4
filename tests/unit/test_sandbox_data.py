"""The sandbox's made-up recordings and its chances repeat by seed, and its limiter lets through what it should."""

import csv
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sandbox_calls import CATALOGUE, GOOD, IDS, MISSING, ODD
from workers.errors import InputError
from workers.sandbox.catalogue import Catalogue, manifest_ids, write_manifest
from workers.sandbox.config import SandboxConfig
from workers.sandbox.faults import Faults, read_faults
from workers.sandbox.limits import Limits, TokenBucket
from workers.sandbox.stats import Stats
from workers.sandbox.transcripts import MAX_SEGMENTS, transcript


class TestCatalogue:
    def test_three_hundred_recordings_have_each_oddity(self) -> None:
        odd = [CATALOGUE.media(media_id) for media_id in ODD]
        assert len(MISSING) == 3
        assert sum(1 for media in odd if media and (media.duration_seconds or 0) > 1800) == 3
        assert sum(1 for media in odd if media and media.format == "wav" and media.codec.lower() != "pcm") >= 3
        assert sum(1 for media in odd if media and media.duration_seconds is None) == 1

    def test_ids_are_the_same_for_the_same_seed_only(self) -> None:
        assert manifest_ids(1, 50) == IDS[:50]
        assert not set(manifest_ids(2, 50)) & set(IDS)

    def test_an_id_beyond_the_count_or_made_up_is_unknown(self) -> None:
        assert Catalogue(1, 50).media(GOOD[-1]) is None
        assert CATALOGUE.media("nonsense") is None
        assert CATALOGUE.media(GOOD[0][:-1] + "x") is None

    def test_manifest_has_every_recording_and_the_same_bytes_each_time(self, tmp_path: Path) -> None:
        first, second = tmp_path / "a.csv", tmp_path / "b.csv"
        write_manifest(first, SandboxConfig())
        write_manifest(second, SandboxConfig())
        assert first.read_bytes() == second.read_bytes()
        with first.open() as file:
            rows = list(csv.DictReader(file))
        assert [row["media_id"] for row in rows] == IDS
        assert {"", "es-US", "de-DE", "ja-JP"} <= {row["languages"] for row in rows}

    def test_a_wrong_setting_is_named(self) -> None:
        with pytest.raises(InputError, match="never_finish is 2"):
            SandboxConfig(never_finish=2)

    def test_wrong_faults_are_named(self) -> None:
        with pytest.raises(InputError, match="The fault submit_status can't be 200"):
            SandboxConfig(faults='{"submit_status": 200}')


class TestShares:
    @given(seed=st.integers(0, 1000), share=st.floats(0, 0.5))
    def test_each_value_hits_its_share_of_the_recordings(self, seed: int, share: float) -> None:
        faults = Faults(seed, Stats())
        faults.replace(read_faults(json.dumps({"webhooks": {"lost": share, "early": share}})))
        drawn = Counter(faults.take("webhooks", faults.turn("submit", f"{number}")) for number in range(1000))
        assert abs(drawn["lost"] - share * 1000) < 100
        assert abs(drawn["early"] - share * 1000) < 100

    def test_two_faults_of_one_request_are_drawn_apart(self) -> None:
        faults = Faults(1, Stats())
        faults.replace(read_faults('{"accept_then": {"cut": 0.5}, "webhooks": {"lost": 0.5}}'))
        turns = [faults.turn("submit", f"{number}") for number in range(100)]
        assert len({(faults.take("accept_then", turn), faults.take("webhooks", turn)) for turn in turns}) == 4


class TestTranscripts:
    @given(
        duration_seconds=st.floats(0.1, 1800), language=st.sampled_from(["en-US", "es-US", "de-DE", "ja-JP", "fr-FR"])
    )
    def test_speakers_alternate_and_segments_stay_within_the_call(self, duration_seconds: float, language: str) -> None:
        segments = transcript(1, "m", duration_seconds, (language,), redacted=False, with_speakers=True)
        assert 4 <= len(segments) <= MAX_SEGMENTS
        assert {segment["speaker"] for segment in segments[::2]} == {"agent"}
        assert {segment["speaker"] for segment in segments[1::2]} == {"customer"}
        times = [segment[key] for segment in segments for key in ("startMs", "endMs")]
        assert times == sorted(times)
        assert times[-1] <= duration_seconds * 1000
        assert not any("{" in segment["text"] for segment in segments)

    def test_a_language_without_words_falls_back_to_the_next_one_asked_for(self) -> None:
        segments = transcript(1, "m", 60, ("fr-FR", "de-DE"), redacted=False, with_speakers=False)
        assert {segment["language"] for segment in segments} == {"de-DE"}
        assert "speaker" not in segments[0]


class TestLimits:
    def test_a_second_token_within_a_second_has_to_wait(self) -> None:
        limits = Limits("token-bucket", 1000, shared=True)
        assert [limits.take("token") for _ in range(2)] == [None, 1]

    @given(rate=st.floats(0.1, 500), gaps=st.lists(st.floats(0, 2), max_size=200))
    def test_a_token_bucket_never_lets_through_more_than_its_rate_and_one_second_s_worth(
        self, rate: float, gaps: list[float]
    ) -> None:
        bucket, now, passed = TokenBucket(rate), 1000.0, 0
        for gap in gaps:
            now += gap
            passed += bucket.take(now) is None
        assert passed <= max(1, rate) + rate * sum(gaps) + 0.001

    @given(rate=st.floats(0.1, 500))
    def test_a_call_that_waits_for_retry_after_passes(self, rate: float) -> None:
        bucket = TokenBucket(rate)
        retry_after = next(wait for _ in itertools.count() if (wait := bucket.take(1000.0)) is not None)
        assert retry_after >= 1
        assert bucket.take(1000.0 + retry_after) is None
