"""The fingerprint of a request: the same in every version, for ledgers keep it."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from workers.model import TranscriptionRequest

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_it_is_the_digest_that_ledgers_hold() -> None:
    request = TranscriptionRequest("a1b2", ("en-US", "es-ES"), "policy-1", speaker_identification=False)
    assert request.fingerprint().hex() == "417965527929025a98424408e225811f1f8504bf23b5a80c9a3608ff738ad60d"


@given(text, st.lists(text, max_size=3).map(tuple), st.none() | text, st.booleans())
def test_it_is_the_digest_of_the_whole_request_as_json(
    media_id: str, languages: tuple[str, ...], policy: str | None, speakers: bool
) -> None:
    parts = [media_id, list(languages), policy, {"speaker_identification": speakers}]
    whole = json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()
    assert TranscriptionRequest(media_id, languages, policy, speakers).fingerprint() == hashlib.sha256(whole).digest()
