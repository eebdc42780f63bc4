"""Writes documents to a cluster in bulk requests, and looks at what became of each one."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from workers.errors import DocumentsNotStored
from workers.search.documents import Document, to_json
from workers.search.opensearch_cluster import BUSY, TRIES, Cluster, explained, pause
from workers.search.words import searchable

#: A request is closed before it has more than these.
MOST_BYTES: Final = 5_000_000
MOST_ACTIONS: Final = 200
#: The stored version is newer: the document is there already, as it should be.
_CONFLICT: Final = 409
#: The request is: its limit is the cluster's, or a proxy's before it.
_TOO_LARGE: Final = 413
_REFUSED: Final = "It was refused (HTTP {}"
#: Of a request to store: there is no such index.
_GONE: Final = _REFUSED.format(404)
#: No text, and nothing that can be sent as UTF-8.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class IndexGone(DocumentsNotStored):
    """An index was dropped after it had been looked up: look again where to write, and write again."""


@dataclass(frozen=True, slots=True)
class Target:
    """An index to write to, or an alias, which must be there already: a write would else make an index of its name."""

    name: str
    must_be_alias: bool


@dataclass(frozen=True, slots=True)
class _Action:
    """One document for one index."""

    ref: str
    lines: bytes


def write(cluster: Cluster, documents: Sequence[Document], targets: Sequence[Target], *, refresh: bool) -> None:
    """Stores each document in each index; raises DocumentsNotStored, with the reason of each that is not.

    Raises IndexGone when one of the indexes is not there any more.
    """
    reasons: dict[str, str] = {}
    for actions in _requests(_actions(documents, targets)):
        reasons |= _write(cluster, actions, refresh=refresh)
    if reasons:
        some = next(iter(reasons.values()))
        number = f"{len(reasons)} of {len(documents)} documents"
        kind = IndexGone if any(reason.startswith(_GONE) for reason in reasons.values()) else DocumentsNotStored
        raise kind(f"The search engine did not store {number}: {some}", reasons)


def _actions(documents: Sequence[Document], targets: Sequence[Target]) -> Iterator[_Action]:
    for document in documents:
        source = _line({**to_json(document), "words": searchable(document.text)})
        for target in targets:
            head: dict[str, Any] = {
                "_index": target.name,
                "_id": document.ref,
                "version": document.version,
                "version_type": "external_gte",
            }
            if target.must_be_alias:
                head["require_alias"] = True
            yield _Action(document.ref, _line({"index": head}) + source)


def _requests(actions: Iterator[_Action]) -> Iterator[list[_Action]]:
    request: list[_Action] = []
    size = 0
    for action in actions:
        if request and (size + len(action.lines) > MOST_BYTES or len(request) >= MOST_ACTIONS):
            yield request
            request, size = [], 0
        request.append(action)
        size += len(action.lines)
    if request:
        yield request


def _write(cluster: Cluster, actions: list[_Action], *, refresh: bool) -> dict[str, str]:
    """Sends one request, and again what the cluster was too busy for; gives why what was not stored was not."""
    refused: dict[str, str] = {}
    for attempt in range(1, TRIES + 1):
        content = b"".join(action.lines for action in actions)
        answer = cluster.call("POST", "_bulk", content=content, params={"refresh": refresh}, expects=(_TOO_LARGE,))
        if answer.status == _TOO_LARGE:
            return refused | _write_less(cluster, actions, refresh=refresh)
        busy: list[_Action] = []
        for action, item in zip(actions, answer.body["items"], strict=True):
            (result,) = item.values()
            status = result["status"]
            if status in BUSY:
                busy.append(action)
            elif status >= 300 and status != _CONFLICT:
                refused[action.ref] = f"{_REFUSED.format(status)}, {explained(result.get('error'))})."
        actions = busy
        if not actions:
            return refused
        if attempt < TRIES:
            time.sleep(pause(attempt))
    return refused | {action.ref: "The search engine was overloaded." for action in actions}


def _write_less(cluster: Cluster, actions: list[_Action], *, refresh: bool) -> dict[str, str]:
    """Sends what was too large together in two requests; a document that is so alone must not hold up the others."""
    if len(actions) == 1:
        return {actions[0].ref: f"It is larger than the search engine takes ({len(actions[0].lines)} bytes, HTTP 413)."}
    middle = len(actions) // 2
    halves = (actions[:middle], actions[middle:])
    return {ref: why for half in halves for ref, why in _write(cluster, half, refresh=refresh).items()}


def _line(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _SURROGATE.sub("\ufffd", text).encode() + b"\n"
