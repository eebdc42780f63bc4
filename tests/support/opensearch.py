"""A search cluster to test against: a stand-in that the tests start, or a real one given by `--search-url`."""

import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from osmem_server import OsmemServer

from workers.search.opensearch import OpenSearchIndex
from workers.search.opensearch_cluster import Access, Cluster
from workers.search.opensearch_names import Names

PREFIX: Final = "retroscribe-test"


def access_from_environment(url: str) -> Access:
    """Who asks a real cluster, from the settings that Retroscribe itself reads."""
    given = {
        name: os.environ.get(f"RETROSCRIBE_SEARCH_{name.upper()}")
        for name in ("user", "password", "api_key", "ca_file")
    }
    ca_file = given.pop("ca_file")
    return Access(url.rstrip("/"), ca_file=Path(ca_file) if ca_file else None, **given)


@contextmanager
def stand_in() -> Iterator[Access]:
    """A server in memory that speaks like OpenSearch; only a test server: it keeps nothing and ignores refreshes."""
    server = OsmemServer.start(japanese=False)
    yield Access(server.url)
    server.process.kill()
    server.process.wait()
    for pipe in (server.process.stdin, server.process.stdout):
        if pipe:
            pipe.close()


@contextmanager
def opener(access: Access) -> Iterator[partial[OpenSearchIndex]]:
    """Opens an index of a name that nobody else has, whose documents are found at once; it is deleted in the end."""
    alias = f"{PREFIX}-{secrets.token_hex(5)}"
    yield partial(OpenSearchIndex, access, alias, refresh=True)
    with closing(Cluster(access)) as cluster:
        for name in Names(cluster, alias).places().all:
            cluster.call("DELETE", name, expects=(404,))
        cluster.call("DELETE", f"_index_template/{alias}", expects=(403, 404))
