"""Callback tokens: only ours, each for one submission, old secrets valid while they are listed."""

import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from workers.pipeline.callbacks import callback_uri, mint, verify

REF = "0123456789abcdef0123456789abcdef"
OLD, NEW, FOREIGN = b"old-secret-of-ours", b"new-secret-of-ours", b"secret-of-somebody"

refs = st.uuids().map(lambda value: value.hex)
secrets = st.binary(min_size=16, max_size=64)


@given(refs, secrets)
def test_a_token_gives_back_the_ref_that_it_was_minted_for(ref: str, secret: bytes) -> None:
    assert verify(mint(ref, [secret]), [secret]) == ref


@given(refs, secrets, secrets)
def test_a_token_of_another_secret_is_refused(ref: str, ours: bytes, theirs: bytes) -> None:
    assert ours == theirs or verify(mint(ref, [theirs]), [ours]) is None


@given(refs, refs)
def test_the_mac_of_one_ref_does_not_fit_another(first: str, second: str) -> None:
    mac = mint(first, [NEW]).partition(".")[2]

    assert first == second or verify(f"{second}.{mac}", [NEW]) is None


@given(st.integers(0, 75), st.characters())
def test_a_token_with_one_other_character_is_refused(place: int, character: str) -> None:
    token = mint(REF, [NEW])
    changed = token[:place] + character + token[place + 1 :]

    assert changed == token or verify(changed, [NEW]) is None


@given(st.text())
def test_any_text_is_refused_without_an_error(text: str) -> None:
    assert verify(text, [NEW]) is None


def test_after_a_rotation_the_first_secret_signs_and_both_verify() -> None:
    rotated = [NEW, OLD]

    assert verify(mint(REF, [OLD]), rotated) == REF
    assert mint(REF, rotated) == mint(REF, [NEW])


def test_a_secret_that_is_no_longer_listed_does_not_verify() -> None:
    assert verify(mint(REF, [OLD]), [NEW]) is None


def test_a_cut_mac_is_refused_even_when_its_beginning_is_right() -> None:
    token = mint(REF, [NEW])

    assert [verify(token[:length], [NEW]) for length in range(len(token))] == [None] * len(token)


def test_a_token_has_at_least_128_bits_of_mac_and_needs_no_escaping_in_a_path() -> None:
    token = mint(uuid.uuid4().hex, [NEW])

    assert re.fullmatch(r"[0-9a-f]{32}\.[A-Za-z0-9_-]{22,}", token)


def test_the_uri_ends_with_the_token_below_the_public_path() -> None:
    uri = callback_uri("https://calls.example.com", REF, [NEW, FOREIGN])

    assert uri == f"https://calls.example.com/api/webhooks/genesys-transcription/{mint(REF, [NEW])}"
