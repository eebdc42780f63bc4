"""How a cluster is spoken to: what is tried again, what is refused for good, who asks, and what is never shown."""

import base64
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from tests.support.opensearch import stand_in
from tests.support.scripted_server import ScriptedServer, reply
from tests.support.search import document
from workers.errors import DocumentsNotStored, SearchUnavailable
from workers.resources import Resources
from workers.search import opensearch_bulk, opensearch_cluster
from workers.search.opensearch import OpenSearchIndex
from workers.search.opensearch_bulk import Target, write
from workers.search.opensearch_cluster import Access, Answer, Cluster
from workers.search.opensearch_names import Names
from workers.search.query import parse
from workers.search.sqlite import SqliteIndex

SECRET = "hunter2-is-secret"
SAID = "my card number is 4929"
TARGET = [Target("calls", must_be_alias=True)]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensearch_cluster, "FIRST_PAUSE_SECONDS", 0.0)


def items(*results: dict[str, Any]) -> bytes:
    return reply(200, {"errors": True, "items": [{"index": result} for result in results]})


def error(status: int, kind: str, reason: str) -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "reason": reason}}


def sent(request: bytes) -> list[str]:
    """The ids of the documents in a bulk request."""
    lines = request.partition(b"\r\n\r\n")[2].splitlines()
    return [json.loads(line)["index"]["_id"] for line in lines[::2]]


def test_of_a_bulk_only_what_the_cluster_was_too_busy_for_is_sent_again() -> None:
    mixed = items({"status": 201}, error(429, "rejected", "queue"), {"status": 200}, error(503, "no shard", "copy"))
    with ScriptedServer(mixed, items({"status": 201}, {"status": 200})) as server:
        cluster = Cluster(Access(server.url))
        write(cluster, [document(name, "hello") for name in "abcd"], TARGET, refresh=False)

    assert [sent(request) for request in server.requests] == [["ref-a", "ref-b", "ref-c", "ref-d"], ["ref-b", "ref-d"]]


def test_what_is_refused_for_good_is_named_with_its_reason_but_not_with_what_was_said_and_the_rest_is_stored() -> None:
    reason = f"failed to parse field [duration] of type [double]. Preview of field's value: '{SAID}'"
    conflict = error(409, "version_conflict_engine_exception", "the stored version is higher")
    answer = items({"status": 201}, error(400, "mapper_parsing_exception", reason), conflict)
    with ScriptedServer(answer) as server, pytest.raises(DocumentsNotStored) as refused:
        write(Cluster(Access(server.url)), [document(name, SAID) for name in "abc"], TARGET, refresh=False)

    assert refused.value.reasons == {"ref-b": "It was refused (HTTP 400, mapper_parsing_exception, field duration)."}
    assert "1 of 3 documents" in str(refused.value)
    assert SAID not in str(refused.value)
    assert len(server.requests) == 1


def test_what_a_busy_cluster_never_takes_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensearch_bulk, "TRIES", 2)
    busy = error(429, "rejected", "queue")
    with ScriptedServer(items({"status": 201}, busy), items(busy)) as server, pytest.raises(DocumentsNotStored) as left:
        write(Cluster(Access(server.url)), [document(name, "hello") for name in "ab"], TARGET, refresh=False)

    assert left.value.reasons == {"ref-b": "The search engine was overloaded."}


def test_a_large_batch_goes_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensearch_bulk, "MOST_BYTES", 2_000)
    with ScriptedServer(items({"status": 201}), items({"status": 201}, {"status": 201})) as server:
        cluster = Cluster(Access(server.url))
        write(cluster, [document("a", "hello " * 200), document("b"), document("c")], TARGET, refresh=False)

    assert [sent(request) for request in server.requests] == [["ref-a"], ["ref-b", "ref-c"]]


def test_a_document_that_is_too_large_alone_does_not_hold_up_the_others() -> None:
    too_large, stored = reply(413), items({"status": 201})
    replies = [too_large, stored, too_large, too_large, stored]
    with ScriptedServer(*replies) as server, pytest.raises(DocumentsNotStored) as refused:
        write(Cluster(Access(server.url)), [document(name, "hello") for name in "abc"], TARGET, refresh=False)

    assert [sent(request) for request in server.requests] == [
        ["ref-a", "ref-b", "ref-c"],
        ["ref-a"],
        ["ref-b", "ref-c"],
        ["ref-b"],
        ["ref-c"],
    ]
    assert list(refused.value.reasons) == ["ref-b"]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_cluster_is_asked_again_and_then_left_alone_for_a_moment(status: int) -> None:
    with ScriptedServer(reply(status, b"<html>busy</html>")) as server:
        cluster = Cluster(Access(server.url))
        with pytest.raises(SearchUnavailable, match=rf"overloaded \(HTTP {status}\)"):
            cluster.call("GET", "_cluster/health")
        tries = len(server.requests)

    assert tries == opensearch_cluster.TRIES


def test_after_a_failure_the_cluster_is_left_alone_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensearch_cluster, "pause", lambda _attempt: 60.0)
    with ScriptedServer(lambda connection: connection.close()) as server:
        cluster = Cluster(Access(server.url))
        with pytest.raises(SearchUnavailable, match=r"does not answer \(RemoteProtocolError\)"):
            cluster.call("GET", "_cluster/health")
        with pytest.raises(SearchUnavailable, match="a moment ago"):
            cluster.call("GET", "_cluster/health")

    assert server.connections == 1


def test_once_it_is_back_a_busy_cluster_answers() -> None:
    with ScriptedServer(reply(503), reply(429, {}, Retry_After="0"), reply(200, {"ok": True})) as server:
        answer = Cluster(Access(server.url)).call("GET", "anything")

    assert (answer.status, answer.body, len(server.requests)) == (200, {"ok": True}, 3)


@pytest.mark.parametrize(
    ("access", "header"),
    [
        ({"user": "me", "password": SECRET}, b"Basic " + base64.b64encode(f"me:{SECRET}".encode())),
        ({"api_key": SECRET}, f"ApiKey {SECRET}".encode()),
    ],
)
@pytest.mark.parametrize("status", [401, 403])
def test_credentials_are_sent_and_never_shown(access: dict[str, str], header: bytes, status: int) -> None:
    with ScriptedServer(reply(status, {"error": {"type": "security_exception", "reason": SECRET}})) as server:
        asks = Access(server.url, **access)
        with pytest.raises(SearchUnavailable, match="RETROSCRIBE_SEARCH_API_KEY") as refused:
            Cluster(asks).call("GET", "calls/_count")

    assert b"Authorization: " + header in server.requests[0].replace(b"authorization", b"Authorization")
    assert SECRET not in f"{refused.value}{asks!r}"


def test_a_refusal_shows_its_kind_and_nothing_of_what_was_said() -> None:
    refusal = reply(400, {"error": {"type": "parsing_exception", "reason": SAID}})
    with (
        ScriptedServer(refusal) as server,
        pytest.raises(SearchUnavailable, match="HTTP 400, parsing_exception") as refused,
    ):
        Cluster(Access(server.url)).call("POST", "calls/_search", {"query": SAID})

    assert SAID not in str(refused.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For localhost, signed by itself; its key lies beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", path.with_suffix(".key"), "-out", path]
    subprocess.run(["openssl", "req", "-x509", *options, *files], check=True, capture_output=True)
    return path


def test_a_certificate_is_verified_against_the_authority_that_is_named(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with ScriptedServer(reply(200, {"ok": True}), tls=context) as server:
        with pytest.raises(SearchUnavailable, match="RETROSCRIBE_SEARCH_CA_FILE names"):
            Cluster(Access(server.url)).call("GET", "anything")
        answer = Cluster(Access(server.url, ca_file=certificate)).call("GET", "anything")

    assert answer.body == {"ok": True}


def test_an_authority_file_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(SearchUnavailable, match=r"CA_FILE .*missing\.pem can't be used"):
        Cluster(Access("https://localhost:1", ca_file=tmp_path / "missing.pem")).call("GET", "anything")


@pytest.fixture(scope="module")
def access() -> Iterator[Access]:
    with stand_in() as server:
        yield server


def test_an_index_of_another_version_is_refused_until_it_is_rebuilt(access: Access) -> None:
    with closing(Cluster(access)) as cluster, closing(OpenSearchIndex(access, "old", refresh=True)) as index:
        cluster.call("PUT", "old-v7", {"mappings": {"_meta": {"schema": 0}}, "aliases": {"old": {}}})
        for use in (index.count, index.check, lambda: index.upsert([document("a", "hello")])):
            with pytest.raises(SearchUnavailable, match="retroscribe reindex"):
                use()

        index.rebuild().finish()
        index.upsert([document("a", "hello")])

        assert (index.count(), list(aliases(cluster, "old"))) == (1, ["old-v8"])


@pytest.mark.parametrize(
    ("version", "knows"),
    [
        ({"number": "7.9.3"}, False),
        ({"number": "7.10.2"}, True),
        ({"number": "7.17.29"}, True),
        ({"number": "8.19.0"}, True),
        ({"number": "1.3.20", "distribution": "opensearch"}, True),
        ({"number": "3.8.0", "distribution": "opensearch"}, True),
    ],
)
def test_only_elasticsearch_before_7_10_is_spared_what_it_does_not_know(version: dict[str, str], knows: bool) -> None:
    with ScriptedServer(reply(200, {"version": version})) as server:
        names = Names(Cluster(Access(server.url)), "calls")

        assert [names.knows_require_alias() for _ in range(2)] == [knows, knows]

    assert len(server.requests) == 1


def test_who_may_not_make_templates_gets_an_index_all_the_same(access: Access) -> None:
    with closing(Cluster(access)) as cluster:
        whole = cluster.call

        def forbid(method: str, path: str, *arguments: Any, **options: Any) -> Answer:
            return Answer(403, {}) if path.startswith("_index_template") else whole(method, path, *arguments, **options)

        cluster.call = forbid  # type: ignore[method-assign]
        Names(cluster, "plain").to_write()

        assert list(aliases(cluster, "plain")) == ["plain-v1"]


def test_nothing_is_found_and_nothing_is_made_before_the_first_document(access: Access) -> None:
    with closing(Cluster(access)) as cluster, closing(OpenSearchIndex(access, "empty")) as index:
        found = index.search(parse("hello"))
        index.delete("ref-a")
        index.check()

        assert (found.total, index.count(), index.get("media-a"), index.versions(None, 5)) == (0, 0, None, [])
        assert aliases(cluster, "empty") == {}


def test_copies_and_refreshes_that_an_operator_has_set_stay_over_a_rebuild(access: Access) -> None:
    with closing(Cluster(access)) as cluster, closing(OpenSearchIndex(access, "kept")) as index:
        index.upsert([document("a", "hello")])
        cluster.call("PUT", "kept/_settings", {"index": {"number_of_replicas": 2, "refresh_interval": "9s"}})

        rebuild = index.rebuild()
        rebuild.upsert([document("a", "hello")])
        meanwhile = settings(cluster, "kept-v2")
        rebuild.finish()

        assert (meanwhile["index.number_of_replicas"], meanwhile["index.refresh_interval"]) == ("0", "-1")
        after = settings(cluster, "kept-v2")
        assert (after["index.number_of_replicas"], after["index.refresh_interval"]) == ("2", "9s")
        assert list(aliases(cluster, "kept")) == ["kept-v2"]


def test_the_template_gives_an_index_that_somebody_else_makes_the_same_mapping(access: Access) -> None:
    with closing(Cluster(access)) as cluster, closing(OpenSearchIndex(access, "made")) as index:
        index.upsert([document("a", "hello")])
        cluster.call("PUT", "made-v9")

        mappings = cluster.call("GET", "made-v*/_mapping").body

        assert mappings["made-v9"] == mappings["made-v1"]


def test_a_deleted_document_can_be_written_again_in_the_same_version(access: Access) -> None:
    with closing(OpenSearchIndex(access, "again", refresh=True)) as index:
        index.upsert([document("a", "hello", version=5)])
        index.delete("ref-a")
        index.upsert([document("a", "hello", version=5)])

        assert index.count() == 1


def test_who_looked_before_a_rebuild_ended_looks_again_and_brings_no_dropped_index_back(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Cluster(access)) as cluster, closing(OpenSearchIndex(access, "looked", refresh=True)) as index:
        index.upsert([document("a", "hello")])
        rebuild = index.rebuild()
        looks = [index._names.places()]
        rebuild.abandon()
        real = index._names.to_write
        monkeypatch.setattr(index._names, "to_write", lambda: looks.pop() if looks else real())

        index.upsert([document("b", "hello")])

        assert (looks, index.count()) == ([], 2)
        assert list(aliases(cluster, "looked")) == ["looked-v1"]


def test_what_no_utf_8_can_hold_is_replaced(access: Access) -> None:
    with closing(OpenSearchIndex(access, "surrogates", refresh=True)) as index:
        index.upsert([document("a", "lone \ud800 surrogate")])

        shown = index.get("media-a")

        assert shown is not None
        assert shown.text == "lone \ufffd surrogate"


def aliases(cluster: Cluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.call("GET", f"{name}-v*/_alias").body
    return found


def settings(cluster: Cluster, name: str) -> dict[str, str]:
    (found,) = cluster.call("GET", f"{name}/_settings", params={"flat_settings": True}).body.values()
    values: dict[str, str] = found["settings"]
    return values


@pytest.mark.parametrize(
    ("url", "engine"),
    [(None, SqliteIndex), ("sqlite:///a/file", SqliteIndex), ("https://search:9200", OpenSearchIndex)],
)
def test_the_url_chooses_the_engine(tmp_path: Path, url: str | None, engine: type) -> None:
    settings = Settings(home=tmp_path, search_url=url, search_api_key=SECRET, _env_file=None)

    assert isinstance(Resources(settings).index, engine)
    assert SECRET not in repr(settings)
