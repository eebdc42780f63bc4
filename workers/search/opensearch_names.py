"""Which indices of a cluster are ours: an alias that stays, and numbered indices that take turns behind it.

NAME        alias of the index that is searched and written
NAME-next   alias of the one that is being filled, while one is: every writer writes there too
NAME-vN     the indices
"""

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from workers.errors import SearchUnavailable
from workers.search.opensearch_cluster import Cluster
from workers.search.opensearch_schema import META, new_index, template

log = structlog.get_logger(__name__)

_EXISTS = "resource_already_exists_exception"


@dataclass(frozen=True, slots=True)
class Places:
    """The index that is searched, the one that is being filled, and all there are, of whatever use."""

    current: str | None
    filled: str | None
    all: tuple[str, ...]


class Names:
    """Looks up, makes and changes what stands for what; each look asks the cluster anew."""

    def __init__(self, cluster: Cluster, alias: str) -> None:
        self._cluster = cluster
        self.alias = alias
        self.filling = f"{alias}-next"
        self._known: set[str] = set()
        self._requires: bool | None = None
        self._making = threading.Lock()

    def places(self) -> Places:
        """How things stand."""
        answer = self._cluster.call("GET", f"{self.alias}-v*/_alias", expects=(404,))
        found: dict[str, Any] = answer.body if answer.status == 200 else {}
        ours = {name: about["aliases"] for name, about in found.items() if self._number(name)}
        return Places(
            current=next((name for name, aliases in ours.items() if self.alias in aliases), None),
            filled=next((name for name, aliases in ours.items() if self.filling in aliases), None),
            all=tuple(ours),
        )

    def to_read(self) -> Places:
        """As `places`; raises SearchUnavailable when the present index was made by another version."""
        places = self.places()
        if places.current:
            self._check(places.current)
        return places

    def to_write(self) -> Places:
        """As `to_read`; makes the first index where there is none."""
        places = self.to_read()
        if places.current is None:
            with self._making:
                # With its alias at once: who makes one at the same time finds it complete.
                self.make(self.unused(places), {**new_index(), "aliases": {self.alias: {}}})
            places = self.to_read()
        return places

    def knows_require_alias(self) -> bool:
        """Whether a write can say that an alias must be there; Elasticsearch before 7.10 refuses it for that."""
        if self._requires is None:
            answer = self._cluster.call("GET", "", expects=(403,))
            version = answer.body["version"] if answer.status == 200 else {}
            numbers = [int(part) for part in re.findall(r"\d+", version.get("number", ""))[:2]]
            self._requires = version.get("distribution") == "opensearch" or not numbers or numbers >= [7, 10]
        return self._requires

    def make(self, name: str, body: dict[str, Any]) -> None:
        """Makes an index, if it is not there, after the template."""
        # Who may write indices may not be allowed to make templates, and Elasticsearch before 7.8 knows none such: the
        # index has it all by itself too.
        told = self._cluster.call("PUT", f"_index_template/{self.alias}", template(self.alias), expects=(400, 403, 405))
        if told.status >= 300:
            log.warning("search_template_not_made", status=told.status)
        answer = self._cluster.call("PUT", name, body, expects=(400,))
        if answer.status == 400 and answer.body["error"]["type"] != _EXISTS:
            raise SearchUnavailable(f"The search engine can't make the index {name} ({answer.body['error']['type']}).")

    def unused(self, places: Places) -> str:
        """The name of an index that there is not yet."""
        return f"{self.alias}-v{max((self._number(name) for name in places.all), default=0) + 1}"

    def fill(self, new: str, places: Places) -> None:
        """Has every writer write the new index too, in place of one that was begun before."""
        before = [_remove(places.filled, self.filling)] if places.filled else []
        self._change([*before, _add(new, self.filling)])

    def switch(self, new: str, places: Places) -> None:
        """Makes the new index the one that is searched and written, in one step."""
        old = [_remove(places.current, self.alias)] if places.current else []
        self._change([*old, _remove(new, self.filling), _add(new, self.alias)])

    def drop(self, names: Iterable[str]) -> None:
        """Deletes indices for good."""
        for name in names:
            self._cluster.call("DELETE", name, expects=(404,))

    def _change(self, actions: list[dict[str, Any]]) -> None:
        self._cluster.call("POST", "_aliases", {"actions": actions})

    def _check(self, name: str) -> None:
        if name in self._known:
            return
        answer = self._cluster.call("GET", f"{name}/_mapping", expects=(404,))
        if answer.status == 404:
            return  # it was switched just now
        mapping = next(iter(answer.body.values()))["mappings"]
        if mapping.get("_meta") != META:
            raise SearchUnavailable(
                f"The search index {name} was made by another version of Retroscribe: run `retroscribe reindex`, which "
                "builds a new one from the ledger, while everything else goes on."
            )
        self._known.add(name)

    def _number(self, name: str) -> int:
        """Of an index of ours, else 0."""
        match = re.fullmatch(re.escape(self.alias) + r"-v(\d+)", name)
        return int(match[1]) if match else 0


def _add(index: str, alias: str) -> dict[str, Any]:
    return {"add": {"index": index, "alias": alias}}


def _remove(index: str, alias: str) -> dict[str, Any]:
    return {"remove": {"index": index, "alias": alias}}
