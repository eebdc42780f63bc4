"""`retroscribe search`: finds transcripts by what was said."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

from config.settings import Settings
from workers.cli.common import console, duration, errors, existing_resources
from workers.cli.completion import backfill_names
from workers.cli.obstacles import local
from workers.errors import InputError
from workers.search.results import Hit, Results


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(search)
    app.command()(reindex)


def search(
    query: Annotated[str, typer.Argument(help='Words, "phrases", prefix*, -excluded.')] = "",
    language: Annotated[list[str] | None, typer.Option(help="Only this language; may be repeated.")] = None,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="Asked for on this day or later (UTC).")] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Asked for on this day or earlier (UTC).")] = None,
    min_confidence: Annotated[float | None, typer.Option(help="Average confidence, 0 to 1, at least.")] = None,
    min_duration: Annotated[float | None, typer.Option(help="Calls of at least so many seconds.")] = None,
    max_duration: Annotated[float | None, typer.Option(help="Calls of at most so many seconds.")] = None,
    redacted: Annotated[
        bool | None, typer.Option("--redacted/--not-redacted", help="Only redacted transcripts, or only others.")
    ] = None,
    media_id: Annotated[str | None, typer.Option(help="Only this media id.")] = None,
    backfill: Annotated[
        str | None, typer.Option(help="Only recordings of this backfill.", autocompletion=backfill_names)
    ] = None,
    sort: Annotated[str, typer.Option(help="relevance or newest.")] = "relevance",
    size: Annotated[int, typer.Option(help="Hits a page, at most 100.")] = 10,
    offset: Annotated[int, typer.Option(help="How many hits to pass over.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Searches the transcripts: all words must occur, and what a filter names must be known of the recording.

    A DATE is a day such as 2026-11-24, or a moment such as 2026-11-24T18:30.
    """
    from workers.search.query import parse

    resources = existing_resources()
    wanted = parse(
        query,
        languages=tuple(language or ()),
        since=_seconds("--since", since),
        until=_seconds("--until", until, to_its_end=True),
        min_confidence=min_confidence,
        min_duration=min_duration,
        max_duration=max_duration,
        redacted=redacted,
        media_id=media_id,
        backfill=backfill,
        sort=sort,
        size=size,
        offset=offset,
    )
    results = resources.index.search(wanted)
    if as_json:
        typer.echo(json.dumps(as_object(results), ensure_ascii=False))
    else:
        show(results, offset)
    if not results.total and not resources.index.count():
        errors.print(_empty(resources.settings))


def reindex(
    name: Annotated[
        str | None,
        typer.Argument(help="Only this backfill's transcripts.", autocompletion=backfill_names),
    ] = None,
) -> None:
    """Rebuilds the search index from the ledger, at no API cost, while everything goes on.

    Searches are answered by the old index until the new one is complete. With a NAME no new index is made: what the
    backfill has is written into the present one.
    """
    from workers.pipeline import reindex as again

    resources = existing_resources()
    written = 0
    for written in again.reindex_backfill(resources, name) if name else again.reindex(resources):
        if errors.is_terminal:
            errors.print(f"{written} written ...", end="\r")
    transcripts = f"{written} transcript{'' if written == 1 else 's'}"
    what = f"{transcripts} of {name} written anew." if name else f"A new index with {transcripts} is in place."
    console.print(what, markup=False)


def as_object(results: Results) -> dict[str, Any]:
    """The stable form of `retroscribe search --json`."""
    return {
        "total": results.total,
        "total_is_exact": results.total_is_exact,
        "ranked_all": results.ranked_all,
        "hits": [_hit(hit) for hit in results.hits],
    }


def show(results: Results, offset: int = 0) -> None:
    """Prints a page of hits for a person."""
    total = f"{results.total}{'' if results.total_is_exact else '+'}"
    console.print(f"[bold]{total}[/bold] transcript{'' if results.total == 1 else 's'} found")
    for number, hit in enumerate(results.hits, offset + 1):
        console.print()
        console.print(_head(number, hit))
        console.print(_snippet(hit))
    shown = offset + len(results.hits)
    if not results.ranked_all:
        errors.print("Only the newest of them were ranked: narrow the query, by dates for instance, to see the best.")
    if results.hits and (shown < results.total or not results.total_is_exact):
        console.print(f"\nMore with --offset {shown}")


def _empty(settings: Settings) -> str:
    """On a second machine nothing would ever be found, and nothing would be wrong."""
    if settings.search_path is None:
        return f"The search index {settings.search_index} is empty."
    return (
        f"The search index {settings.search_path} is empty; it fills where the workers of role index run: search there."
    )


def _head(number: int, hit: Hit) -> Text:
    """Which call it is, when it was asked for, and what is known of it."""
    facts = [
        local(hit.created_at),
        duration(hit.duration_seconds) if hit.duration_seconds is not None else "",
        _harmless(", ".join(hit.languages)),
        "" if hit.confidence is None else f"confidence {hit.confidence:.2f}",
        "redacted" if hit.redacted else "",
        hit.backfill,
    ]
    return Text.assemble(f"{number}. ", (hit.media_id, "bold"), "".join(f"  {fact}" for fact in facts if fact))


def _snippet(hit: Hit) -> Text:
    """Where in the call, who, and what was said, with what was searched for marked."""
    at = hit.position_seconds
    position = "" if at is None else f"{int(at) // 60}:{int(at) % 60:02d} "
    text = Text(f"   {position}{_harmless(hit.speaker) + ': ' if hit.speaker else ''}", style="dim")
    said = _harmless(hit.snippet)
    if not console.is_terminal:
        return text.append(replace(hit, snippet=said).marked("*", "*"))
    line = Text(said, style="not dim")
    for first, last in hit.highlights:
        line.stylize("bold reverse", first, last)
    return text.append_text(line)


def _harmless(text: str) -> str:
    """What was said must not steer the terminal; sign for sign, so that highlights stay in place."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "media_id": hit.media_id,
        "transcription_id": hit.transcription_id,
        "snippet": hit.snippet,
        "highlights": [list(span) for span in hit.highlights],
        "score": hit.score,
        "ref": hit.ref,
        "backfill": hit.backfill,
        "position_seconds": hit.position_seconds,
        "speaker": hit.speaker,
        "confidence": hit.confidence,
        "languages": list(hit.languages),
        "duration_seconds": hit.duration_seconds,
        "redacted": hit.redacted,
        "created_at": _iso(hit.created_at),
        "completed_at": None if hit.completed_at is None else _iso(hit.completed_at),
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _seconds(option: str, moment: str | None, *, to_its_end: bool = False) -> float | None:
    """Unix seconds of a moment; of a day its first second, or its last."""
    if moment is None:
        return None
    try:
        parsed = datetime.fromisoformat(moment.strip())
    except ValueError:
        raise InputError(
            f"{option} is {moment[:80]!r}: give a day such as 2026-11-24, or a moment such as 2026-11-24T18:30."
        ) from None
    if to_its_end and len(moment.strip()) <= len("2026-11-24"):
        parsed += timedelta(days=1, seconds=-1)
    return parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp()
