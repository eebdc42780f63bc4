"""One writer or one reader of an index, in a process of its own.

python -m benchmarks.search.child write PLACE FIRST NUMBER [UNTIL_GONE]
python -m benchmarks.search.child query PLACE SECONDS

PLACE is a file or the URL of a cluster. Each prints "ready", begins with a line on standard input, and prints one JSON
object. With UNTIL_GONE a writer goes on until standard input is closed.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from benchmarks.search.speech import Language, languages, transcripts
from workers.search.index import SearchIndex
from workers.search.opensearch import OpenSearchIndex
from workers.search.opensearch_cluster import Access
from workers.search.query import Query, parse
from workers.search.sqlite import SqliteIndex

BATCH: Final = 100
ALIAS: Final = "retroscribe-bench"


def main(way: str, place: str, *arguments: str) -> None:
    index = opened(place)
    spoken = languages()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(_WAYS[way](index, spoken, *arguments)), flush=True)
    index.close()


def opened(place: str) -> SearchIndex:
    """The index in a file or, behind an alias of its own, in a cluster."""
    if place.startswith("http"):
        return OpenSearchIndex(Access(place), ALIAS)
    return SqliteIndex(Path(place))


def write(
    index: SearchIndex, spoken: list[Language], first: str, number: str, until_gone: str = ""
) -> dict[str, float]:
    """Writes in batches; the time is that of the calls, without the making of the transcripts."""
    gone = threading.Event()
    if until_gone:
        threading.Thread(target=lambda: (sys.stdin.read(), gone.set()), daemon=True).start()
    made = transcripts(spoken, int(first), int(number))
    written, seconds, longest = 0, 0.0, 0.0
    while (batch := list(islice(made, BATCH))) and not gone.is_set():
        began = time.perf_counter()
        index.upsert(batch)
        took = time.perf_counter() - began
        written, seconds, longest = written + len(batch), seconds + took, max(longest, took)
    return {"documents": written, "seconds": seconds, "longest": longest}


def query(index: SearchIndex, spoken: list[Language], seconds: str) -> dict[str, Any]:
    """Asks each kind of query in turn, until the time is over; milliseconds of each, snippets included."""
    kinds = _kinds(spoken, index.count())
    took: dict[str, list[float]] = {name: [] for name in kinds}
    found: dict[str, int] = {}
    end = time.perf_counter() + float(seconds)
    for number in count():
        for name, make in kinds.items():
            asked = make(number)
            began = time.perf_counter()
            found[name] = index.search(asked).total
            took[name].append((time.perf_counter() - began) * 1000)
        if time.perf_counter() > end:
            break
    return {name: {"queries": len(times), "found": found[name], **_percentiles(times)} for name, times in took.items()}


def _kinds(spoken: list[Language], stored: int) -> dict[str, Callable[[int], Query]]:
    english, spanish, japanese = (language.words for language in spoken)
    phrases = [list(_pairs(language)) for language in spoken]
    return {
        "the most frequent word": lambda _: parse(english[0]),
        "a word said now and then": lambda n: parse(english[500 + n % 500]),
        "a word said in one call": lambda n: parse(f"rare{n * 7919 % stored}"),
        "two words": lambda n: parse(f"{english[20 + n % 50]} {english[200 + n % 50]}"),
        "a phrase": lambda n: parse(f'"{phrases[0][n % 500]}"'),
        "a Japanese word": lambda n: parse(japanese[100 + n % 300]),
        "a beginning*": lambda n: parse(f"{spanish[300 + n % 300][:4]}*"),
        "a word, a language and 3 hours": lambda n: parse(
            spanish[10 + n % 50],
            languages=["es"],
            until=1_767_225_600 + stored - n,
            since=1_767_225_600 + stored - 10_800,
        ),
        "the newest of a language": lambda n: parse("", languages=["ja"], min_confidence=0.5, offset=n % 10 * 10),
    }


def _pairs(language: Language) -> Iterator[str]:
    for segment in language.segments[:500]:
        yield " ".join(segment.text.split()[3:5])


def _percentiles(times: list[float]) -> dict[str, float]:
    cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    return {"p50": cuts[49], "p99": cuts[98]}


_WAYS: Final[dict[str, Callable[..., dict[str, Any]]]] = {"write": write, "query": query}

if __name__ == "__main__":
    main(*sys.argv[1:])
