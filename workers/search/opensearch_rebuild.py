"""A new index of a cluster that is filled beside the present one."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from workers.errors import SearchUnavailable
from workers.search.documents import Document
from workers.search.opensearch_bulk import Target, write
from workers.search.opensearch_cluster import Cluster
from workers.search.opensearch_names import Names
from workers.search.opensearch_schema import index_to_fill, new_index

#: What an operator may have changed on the living index, and the new one takes over.
_KEPT: Final = ("number_of_replicas", "refresh_interval")


class OpenSearchRebuild:
    """Fills an index without copies and without refreshes; it gets both when it is complete."""

    def __init__(self, cluster: Cluster, names: Names) -> None:
        self._cluster = cluster
        self._names = names
        places = names.places()
        self._new = names.unused(places)
        names.make(self._new, index_to_fill())
        names.fill(self._new, places)
        names.drop(name for name in places.all if name != places.current)

    def upsert(self, documents: Sequence[Document]) -> None:
        """Stores documents in the new index only."""
        self._check()
        write(self._cluster, documents, [Target(self._new, must_be_alias=False)], refresh=False)

    def delete(self, ref: str) -> None:
        """Removes a document from the new index only."""
        self._check()
        remove(self._cluster, self._new, ref)

    def finish(self) -> None:
        """Gives the new index its copies, and the alias to it, in one step for all processes."""
        self._check()
        places = self._names.places()
        self._cluster.call("PUT", f"{self._new}/_settings", {"index": self._settings(places.current)})
        self._cluster.call("POST", f"{self._new}/_refresh")
        self._names.switch(self._new, places)
        self._names.drop([places.current] if places.current else [])

    def abandon(self) -> None:
        """Deletes the new index."""
        if self._names.places().current != self._new:
            self._names.drop([self._new])

    def _settings(self, old: str | None) -> dict[str, Any]:
        kept: dict[str, Any] = {"number_of_replicas": 1, "refresh_interval": _refresh_interval()}
        if old:
            answer = self._cluster.call("GET", f"{old}/_settings", params={"flat_settings": True})
            before = next(iter(answer.body.values()))["settings"]
            kept |= {name: before[f"index.{name}"] for name in _KEPT if f"index.{name}" in before}
        return kept

    def _check(self) -> None:
        if self._names.places().filled != self._new:
            raise SearchUnavailable("Somebody else has begun to rebuild the search index: this one is given up.")


def remove(cluster: Cluster, index: str, ref: str) -> None:
    """Deletes a document of an index, if it is there, and makes it unfindable at once.

    With the version that it has: a cluster would else raise it, and take a later write of the same version for an old
    one.
    """
    path = f"{index}/_doc/{quote(ref, safe='')}"
    while True:
        found = cluster.call("GET", path, params={"_source": False}, expects=(404,))
        if found.status == 404:
            return
        same = {"version": found.body["_version"], "version_type": "external_gte", "refresh": True}
        gone = cluster.call("DELETE", path, params=same, expects=(404, 409))
        if gone.status != 409:
            return


def _refresh_interval() -> str:
    interval: str = new_index()["settings"]["index"]["refresh_interval"]
    return interval
