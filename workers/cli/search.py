"""`retroscribe search`: finds transcripts by what was said."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from workers.cli.common import console, errors, existing_resources
from workers.cli.completion import backfill_names
from workers.search.results import Hit, Results


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(search)
    app.command()(reindex)


def search(
    query: Annotated[str, typer.Argument(help='Words, "phrases", prefix*, -excluded.')] = "",
    language: Annotated[list[str] | None, typer.Option(help="Only this language; may be repeated.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Asked for at this time or later (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Asked for at this time or earlier (UTC).")] = None,
    min_confidence: Annotated[float | None, typer.Option(help="Average confidence, 0 to 1, at least.")] = None,
    media_id: Annotated[str | None, typer.Option(help="Only this media id.")] = None,
    backfill: Annotated[str | None, typer.Option(help="Only recordings of this backfill.")] = None,
    sort: Annotated[str, typer.Option(help="relevance or newest.")] = "relevance",
    size: Annotated[int, typer.Option(help="Hits a page, at most 100.")] = 10,
    offset: Annotated[int, typer.Option(help="How many hits to pass over.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Searches the transcripts."""
    from workers.search.query import parse

    resources = existing_resources()
    wanted = parse(
        query,
        languages=tuple(language or ()),
        since=_seconds(since),
        until=_seconds(until),
        min_confidence=min_confidence,
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
        "hits": [_hit(hit) for hit in results.hits],
    }


def show(results: Results, offset: int = 0) -> None:
    """Prints a page of hits for a person."""
    total = f"{results.total}{'' if results.total_is_exact else '+'}"
    console.print(f"[bold]{total}[/bold] transcript{'' if results.total == 1 else 's'} found")
    for number, hit in enumerate(results.hits, offset + 1):
        confidence = "" if hit.confidence is None else f"  confidence {hit.confidence:.2f}"
        languages = f"  {escape(', '.join(hit.languages))}" if hit.languages else ""
        console.print(f"\n{number}. [bold]{escape(hit.media_id)}[/bold]{languages}{confidence}")
        console.print(_snippet(hit))
    shown = offset + len(results.hits)
    if results.hits and (shown < results.total or not results.total_is_exact):
        console.print(f"\nMore with --offset {shown}")


def _snippet(hit: Hit) -> Text:
    position = (
        "" if hit.position_seconds is None else f"{int(hit.position_seconds) // 60}:{hit.position_seconds % 60:02.0f} "
    )
    text = Text(f"   {position}{hit.speaker + ': ' if hit.speaker else ''}", style="dim")
    # Sign for sign, so that the highlights stay in place: what was said must not steer the terminal.
    said = "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in hit.snippet)
    line = Text(said.replace("\n", " / "), style="not dim")
    for first, last in hit.highlights:
        before = hit.snippet[:first].count("\n") * 2
        within = hit.snippet[first:last].count("\n") * 2
        line.stylize("bold reverse", first + before, last + before + within)
    return text.append_text(line)


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
        "completed_at": None if hit.completed_at is None else datetime.fromtimestamp(hit.completed_at, UTC).isoformat(),
    }


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
