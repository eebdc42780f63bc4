"""The search index of a cluster: OpenSearch, or what speaks like it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from workers.errors import SearchUnavailable
from workers.search.documents import Document, from_json
from workers.search.excerpt import hit_of
from workers.search.opensearch_bulk import IndexGone, Target, write
from workers.search.opensearch_cluster import Access, Answer, Cluster
from workers.search.opensearch_names import Names
from workers.search.opensearch_query import MAX_COUNTED, search_body
from workers.search.opensearch_rebuild import OpenSearchRebuild, remove
from workers.search.query import Query
from workers.search.results import Results

#: Rebuilds that may end one after the other while one batch is written.
_LOOKS: Final = 3
_MOST_AT_ONCE: Final = 10_000  # index.max_result_window
_WHOLE: Final = {"allow_partial_search_results": False}


class OpenSearchIndex:
    """The index behind an alias; safe to use from any thread and from many machines.

    What `upsert` has returned from is in the logs of all copies; searches find it within the refresh interval, 5 s,
    and with `refresh` at once, which costs the cluster much: for tests. Raises SearchUnavailable when the cluster does
    not answer or is overloaded after four tries; after that it is left alone for seconds.
    """

    def __init__(self, access: Access, alias: str, *, refresh: bool = False) -> None:
        self._cluster = Cluster(access)
        self._names = Names(self._cluster, alias)
        self._alias = alias
        self._refresh = refresh

    def upsert(self, documents: Sequence[Document]) -> None:
        """Stores the documents by ref; safe to repeat. Each is acknowledged by itself."""
        for look in range(_LOOKS if documents else 0):
            try:
                write(self._cluster, documents, self._targets(), refresh=self._refresh)
            except IndexGone:  # a rebuild ended since the look
                if look == _LOOKS - 1:
                    raise
            else:
                return

    def delete(self, ref: str) -> None:
        """Removes a document, and is found by no search when it returns; safe to repeat."""
        places = self._names.places()
        for index in (places.current, places.filled):
            if index:
                remove(self._cluster, index, ref)

    def search(self, query: Query) -> Results:
        """One page of what the query finds."""
        answer = self._read("_search", search_body(query), _WHOLE)
        if answer is None:
            return Results(0, total_is_exact=True, ranked_all=True, hits=())
        found = answer["hits"]
        total = int(found["total"]["value"])
        hits = tuple(hit_of(from_json(hit["_source"]), query, hit["_score"] or 0.0) for hit in found["hits"])
        return Results(min(total, MAX_COUNTED), total <= MAX_COUNTED, ranked_all=True, hits=hits)

    def get(self, media_id: str) -> Document | None:
        """The document of a media id, the newest if it was transcribed in several ways."""
        newest = [{"createdAt": "desc"}, {"ref": "desc"}]
        answer = self._read("_search", {"query": {"term": {"mediaReference": media_id}}, "sort": newest, "size": 1})
        hits = answer["hits"]["hits"] if answer else []
        return from_json(hits[0]["_source"]) if hits else None

    def count(self) -> int:
        """How many documents searches find."""
        answer = self._read("_count", {"query": {"match_all": {}}})
        return int(answer["count"]) if answer else 0

    def versions(self, after_ref: str | None, most: int) -> list[tuple[str, int]]:
        """Ref and version of the next documents in the order of their refs, also of what was written just now."""
        if after_ref is None and self._names.places().current:
            self._cluster.call("POST", f"{self._alias}/_refresh")
        found: list[tuple[str, int]] = []
        while len(found) < most:
            size = min(most - len(found), _MOST_AT_ONCE)
            page = self._versions(found[-1][0] if found else after_ref, size)
            found += page
            if len(page) < size:
                break
        return found

    def purge(self) -> str | None:
        """The cluster does that by itself, in its own time."""
        return (
            f"The search engine keeps what was deleted in its files until it merges them: "
            f"`POST {self._alias}/_forcemerge?only_expunge_deletes=true` has it do so now; snapshots keep it longer."
        )

    def rebuild(self) -> OpenSearchRebuild:
        """Begins a new index beside the present one; the cluster needs room for both."""
        return OpenSearchRebuild(self._cluster, self._names)

    def check(self) -> None:
        """Raises SearchUnavailable when a shard is missing, or the index was made by another version."""
        if self._read("_count", {"query": {"match_all": {}}}) is not None:
            health = self._cluster.call(
                "GET", f"_cluster/health/{self._alias}", params={"timeout": "5s"}, expects=(403, 408)
            )
            if health.status == 200 and health.body["status"] == "red":
                raise SearchUnavailable(f"A shard of the search index {self._alias} is missing (health: red).")

    def close(self) -> None:
        """Closes the connections; a later call opens new ones."""
        self._cluster.close()

    def _targets(self) -> list[Target]:
        places = self._names.to_write()
        sure = self._names.knows_require_alias()
        # By its alias: an index that was dropped since the look would else be made anew by a write to its name.
        filled = [Target(self._names.filling if sure else places.filled, must_be_alias=sure)] if places.filled else []
        return [Target(self._alias, must_be_alias=sure), *filled]

    def _versions(self, after_ref: str | None, size: int) -> list[tuple[str, int]]:
        body: dict[str, Any] = {
            "query": {"match_all": {}},
            "sort": [{"ref": "asc"}],
            "size": size,
            "_source": False,
            "docvalue_fields": ["version"],
        }
        if after_ref is not None:
            body["search_after"] = [after_ref]
        answer = self._read("_search", body, _WHOLE)
        hits = answer["hits"]["hits"] if answer else []
        return [(hit["_id"], int(hit["fields"]["version"][0])) for hit in hits]

    def _read(self, what: str, body: object, params: Mapping[str, object] | None = None) -> dict[str, Any] | None:
        """What the present index answers, None when there is none yet."""
        if self._names.to_read().current is None:
            return None
        answer = self._cluster.call("POST", f"{self._alias}/{what}", body, params=params, expects=(404,))
        return None if answer.status == 404 else _whole(answer)


def _whole(answer: Answer) -> dict[str, Any]:
    """The answer, unless a part of the index had no say in it."""
    body: dict[str, Any] = answer.body
    if body.get("timed_out") or body["_shards"]["failed"]:
        raise SearchUnavailable("A part of the search index did not answer: see the cluster's health.")
    return body
