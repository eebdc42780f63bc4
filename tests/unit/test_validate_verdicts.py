"""Which media can be transcribed: the verdict and the words for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from workers.model import Media, Reason
from workers.pipeline.validate import judge

SETTINGS = Settings(max_duration_seconds=1800, allowed_codecs=("pcm", "mp3", "opus", "vorbis", "webm"))


def media(codec: str | None = "opus", seconds: float | None = 60.0, container: str | None = "ogg") -> Media:
    return Media("m-1", container, codec, seconds)


@pytest.mark.parametrize("codec", ["pcm", "mp3", "opus", "vorbis", "webm", "PCM", "Mp3", "OPUS"])
def test_a_codec_of_the_list_passes_however_it_is_spelled(codec: str) -> None:
    assert judge(media(codec), SETTINGS) is None


@pytest.mark.parametrize("seconds", [0.1, 1, 282.5, 1799.9, 1800])
def test_a_duration_up_to_the_longest_passes(seconds: float) -> None:
    assert judge(media(seconds=seconds), SETTINGS) is None


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (media(container=None), Reason.FORMAT_MISSING, "no format"),
        (media(container=""), Reason.FORMAT_MISSING, "no format"),
        (media(codec=None), Reason.CODEC_MISSING, "no codec"),
        (media(codec=""), Reason.CODEC_MISSING, "no codec"),
        (media(codec="g729"), Reason.CODEC_UNSUPPORTED, "Codec g729 is not one of pcm, mp3"),
        (media(codec="opus "), Reason.CODEC_UNSUPPORTED, "RETROSCRIBE_ALLOWED_CODECS"),
        (media(seconds=None), Reason.DURATION_MISSING, "no duration"),
        (media(seconds=0), Reason.DURATION_NOT_POSITIVE, "a duration of 0 s"),
        (media(seconds=-3.5), Reason.DURATION_NOT_POSITIVE, "a duration of -3.5 s"),
        (media(seconds=1800.1), Reason.DURATION_TOO_LONG, "1800.1 s, more than 1800 s (RETROSCRIBE_MAX_DURATION"),
    ],
)
def test_unusable_media_is_named_with_its_value(found: Media, reason: Reason, words: str) -> None:
    verdict = judge(found, SETTINGS)

    assert verdict is not None
    assert verdict[0] == reason
    assert words in verdict[1]


def test_of_several_problems_the_first_is_named() -> None:
    verdict = judge(media(codec="g729", seconds=9999), SETTINGS)

    assert verdict is not None
    assert verdict[0] == Reason.CODEC_UNSUPPORTED


@given(st.floats(min_value=0, max_value=1e9, exclude_min=True), st.floats(min_value=1, max_value=1e6))
def test_the_limit_on_the_duration_is_the_setting_itself(seconds: float, longest: float) -> None:
    settings = SETTINGS.model_copy(update={"max_duration_seconds": longest})

    assert (judge(media(seconds=seconds), settings) is None) == (seconds <= longest)
