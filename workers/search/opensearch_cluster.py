"""Requests to a search cluster: who asks, time limits, tries, and errors that show no transcript and no secret."""

import json
import random
import re
import ssl
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

from workers.errors import SearchUnavailable

#: Answers of a cluster that is overloaded or has a node missing: the same request may succeed soon.
BUSY: Final = frozenset({429, 502, 503, 504})
TRIES: Final = 4
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 8.0

_TIMEOUT: Final = httpx.Timeout(connect=5, read=30, write=30, pool=30)
_FIELD: Final = re.compile(r"\bfield \[([\w.]+)\]|introduction of \[([\w.]+)\]")


@dataclass(frozen=True, slots=True)
class Access:
    """Where the cluster is and who asks; either user and password, or an API key, or neither."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that the caller has a use for."""

    status: int
    body: Any


class Cluster:
    """One for a process; any number of threads may call it. Raises SearchUnavailable only."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._making = threading.Lock()
        self._client: httpx.Client | None = None
        self._failures = 0
        self._rests_until = 0.0

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: bytes | None = None,
        params: Mapping[str, object] | None = None,
        expects: Collection[int] = (),
    ) -> Answer:
        """Makes a request that is safe to repeat; a busy cluster is asked again, with growing pauses.

        `content` are lines of JSON. An answer other than 2xx that the caller does not expect is raised.
        """
        self._check_rest()
        for attempt in range(1, TRIES + 1):
            answer, wanted_pause = self._once(method, path, body, content, params or {})
            if 200 <= answer.status < 300 or answer.status in expects:
                self._failures = 0
                return answer
            if answer.status not in BUSY:
                raise SearchUnavailable(self._refusal(answer))
            if attempt < TRIES:
                time.sleep(wanted_pause or pause(attempt))
        self._rest()
        raise SearchUnavailable(f"The search engine {self._access.url} is overloaded (HTTP {answer.status}).")

    def close(self) -> None:
        """Closes the connections; a later call opens new ones."""
        with self._making:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _once(
        self, method: str, path: str, body: object, content: bytes | None, params: Mapping[str, object]
    ) -> tuple[Answer, float | None]:
        if body is not None:
            content = json.dumps(body, ensure_ascii=False).encode()
        kind = "application/x-ndjson" if body is None else "application/json"
        try:
            response = self._http().request(
                method,
                f"{self._access.url}/{path}",
                content=content,
                headers={} if content is None else {"Content-Type": kind},
                params={name: _text(value) for name, value in params.items()},
            )
            said = response.json() if response.content else None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._rest()
            raise SearchUnavailable(
                f"The search engine {self._access.url} does not answer ({type(error).__name__}{_about_tls(error)})."
            ) from None
        except ValueError:
            said = None  # a proxy's page, mostly
        return Answer(response.status_code, said), _retry_after(response)

    def _http(self) -> httpx.Client:
        with self._making:
            if self._client is None:
                self._client = _client(self._access)
            return self._client

    def _check_rest(self) -> None:
        """A cluster that is away would have each thread wait for its time limit, and whatever else they do wait too."""
        if time.monotonic() < self._rests_until:
            raise SearchUnavailable(f"The search engine {self._access.url} did not answer a moment ago.")

    def _rest(self) -> None:
        self._failures += 1
        self._rests_until = time.monotonic() + pause(self._failures)

    def _refusal(self, answer: Answer) -> str:
        where = f"The search engine {self._access.url}"
        if answer.status in (401, 403):
            return (
                f"{where} refuses the credentials (HTTP {answer.status}): see RETROSCRIBE_SEARCH_USER and "
                "RETROSCRIBE_SEARCH_PASSWORD, or RETROSCRIBE_SEARCH_API_KEY, and what they are allowed."
            )
        error = answer.body.get("error") if isinstance(answer.body, dict) else None
        return f"{where} refused a request (HTTP {answer.status}, {explained(error)})."


def pause(attempt: int) -> float:
    """How long to wait before another try, seconds: doubling, and never all at the same moment."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
    return float(longest * random.uniform(0.5, 1))  # noqa: S311 not a secret


def explained(error: object) -> str:
    """The kind of an error, and the field it is about; its own text may quote what was said in a call."""
    if not isinstance(error, dict):
        return "without a reason"
    field = _FIELD.search(str(error.get("reason", "")))
    about = f", field {field[1] or field[2]}" if field else ""
    return f"{error.get('type', 'unnamed error')}{about}"


def _client(access: Access) -> httpx.Client:
    headers = {"Accept": "application/json", "User-Agent": f"retroscribe/{version('retroscribe')}"}
    if access.api_key is not None:
        headers["Authorization"] = f"ApiKey {access.api_key}"
    verify = (
        _trusted(access.ca_file) if access.url.startswith("https://") else False
    )  # on loopback there is nothing to verify
    auth = httpx.BasicAuth(access.user, access.password or "") if access.user is not None else None
    return httpx.Client(auth=auth, headers=headers, verify=verify, timeout=_TIMEOUT, follow_redirects=False)


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context() if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:
        raise SearchUnavailable(
            f"RETROSCRIBE_SEARCH_CA_FILE {ca_file} can't be used ({type(error).__name__}): give a PEM file."
        ) from None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _retry_after(response: httpx.Response) -> float | None:
    said = response.headers.get("Retry-After", "")
    return min(float(said), LONGEST_PAUSE_SECONDS) if re.fullmatch(r"\d{1,4}", said) else None


def _about_tls(error: Exception) -> str:
    """Whether it was the certificate, which no waiting mends."""
    if "CERTIFICATE_VERIFY_FAILED" not in str(error):
        return ""
    return ": its certificate is not trusted, RETROSCRIBE_SEARCH_CA_FILE names the authority's"
