"""How an index of a search cluster is made: mapping, settings, and the template that gives them to every new one."""

from typing import Any, Final

from workers.search.words import ANALYZER_VERSION

SCHEMA_VERSION: Final = 1
#: What an index says of itself, to be compared with what this version makes.
META: Final = {"schema": SCHEMA_VERSION, "analyzer": ANALYZER_VERSION}

_KEYWORD: Final = {"type": "keyword"}
_DATE: Final = {"type": "date", "format": "strict_date_optional_time"}

# What is searched is `words`: cut and folded by workers.search.words, so that each engine finds the same, and what is
# found is what is highlighted; the cluster only splits it at the spaces. `content` is for people, and not indexed.
_MAPPING: Final = {
    "dynamic": "strict",
    "_meta": META,
    "_source": {"excludes": ["words"]},
    "properties": {
        "ref": _KEYWORD,
        "version": {"type": "long"},
        "id": _KEYWORD,
        "mediaReference": _KEYWORD,
        "backfill": _KEYWORD,
        "words": {"type": "text", "analyzer": "retroscribe_words"},
        "content": {"type": "text", "index": False},
        "confidence": {"type": "double"},
        # Not nested: each segment would be a document of its own, and no phrase could cross from one to the next.
        "segments": {"type": "object", "enabled": False},
        "languages": {"type": "keyword", "normalizer": "retroscribe_lowercase"},
        "duration": {"type": "double"},
        "redacted": {"type": "boolean"},
        "startedAt": _DATE,
        "completedAt": _DATE,
        "createdAt": _DATE,
        "indexedAt": _DATE,
        "latency_seconds": {"type": "double"},
    },
}
_SETTINGS: Final = {
    "index": {
        "codec": "best_compression",  # the text is there twice, in `content` and in the segments
        "refresh_interval": "5s",
        "analysis": {
            "analyzer": {"retroscribe_words": {"type": "custom", "tokenizer": "whitespace"}},
            "normalizer": {"retroscribe_lowercase": {"type": "custom", "filter": ["lowercase"]}},
        },
    }
}


def template(alias: str) -> dict[str, Any]:
    """The index template: what is named like an index of ours has the mapping, whoever makes it."""
    return {"index_patterns": [f"{alias}-v*"], "priority": 100, "template": new_index()}


def new_index() -> dict[str, Any]:
    """The body that makes an index; shards and replicas are the operator's to set, in a template of higher priority."""
    return {"settings": _SETTINGS, "mappings": _MAPPING}


def index_to_fill() -> dict[str, Any]:
    """As `new_index`, for one that is filled as fast as can be and searched by nobody yet."""
    quick = {**_SETTINGS["index"], "refresh_interval": "-1", "number_of_replicas": 0}
    return {"settings": {"index": quick}, "mappings": _MAPPING}
