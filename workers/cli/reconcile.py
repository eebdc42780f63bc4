"""`retroscribe reconcile`: whether the search index says what the ledger says, and to have it do so."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from workers.cli.common import console, counted, errors, existing_resources

if TYPE_CHECKING:
    from workers.pipeline.reconcile import Comparison, Difference

OK: Final = 0
DIFFERENT: Final = 3

_MEANS: Final = {
    "missing": "indexed in the ledger, without a document",
    "stale": "with a document of another version",
    "extra": "a document of no recording that is transcribed, or of a forgotten one",
}


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(reconcile)


def reconcile(
    fix: Annotated[
        bool, typer.Option("--fix", help="Write what is missing or stale from the ledger, delete what is extra.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> int:
    """Compares the search index with the ledger, while workers go on, and at no API cost.

    Exit codes: 0 they agree, or do so now; 3 they differ; 4 the ledger or the search index can't be reached.
    """
    from workers.pipeline import reconcile as comparing

    so_far = comparing.Comparison()
    for so_far in comparing.reconcile(existing_resources(), fix=fix):
        if errors.is_terminal:
            errors.print(f"{so_far.recordings} recordings and {so_far.documents} documents compared ...", end="\r")
    if as_json:
        typer.echo(json.dumps(_json(so_far, fixed=fix)))
    else:
        _show(so_far, fixed=fix)
    return DIFFERENT if so_far.left else OK


def _show(found: "Comparison", *, fixed: bool) -> None:
    _say(f"{counted(found.recordings, 'indexed recording')} and {counted(found.documents, 'document')} compared.")
    for name, one in _named(found).items():
        if one.number:
            more = ", ..." if one.number > len(one.examples) else ""
            _say(f"{one.number} {name}: {_MEANS[name]} (ref {', '.join(one.examples)}{more})")
    if not found.found:
        _say("The search index says what the ledger says.")
    elif not fixed:
        _say("`retroscribe reconcile --fix` repairs that from the ledger, at no API cost.")
    elif found.left:
        _say(f"{found.left} could not be repaired, for the ledger has no transcript of them.")
    else:
        _say("All of that is repaired.")


def _json(found: "Comparison", *, fixed: bool) -> dict[str, Any]:
    """The stable form."""
    differences = {
        name: {"count": one.number, "refs": one.examples, "repaired": one.repaired}
        for name, one in _named(found).items()
    }
    return {"recordings": found.recordings, "documents": found.documents, **differences, "fix": fixed}


def _named(found: "Comparison") -> dict[str, "Difference"]:
    return {"missing": found.missing, "stale": found.stale, "extra": found.extra}


def _say(sentence: str) -> None:
    console.print(sentence, markup=False, soft_wrap=True)
