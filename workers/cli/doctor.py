"""`retroscribe doctor`: what is wrong with this deployment, and how to mend it."""

import json
import logging
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from config.logging import configure_logging
from workers.cli.common import console
from workers.errors import PartUnreachable
from workers.pipeline.finding import Finding

HEALTHY: Final = 0
MISCONFIGURED: Final = 2
UNREACHABLE: Final = 4
TIMEOUT_SECONDS: Final = 3.0
_STYLES: Final = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False) -> int:
    """Checks settings, parts and API, and says how to mend what is wrong.

    Exit codes: 0 nothing is wrong, 2 settings or credentials are, 4 a part can't be reached; the first one decides.
    """
    from workers.pipeline.checkup import checkup

    # The findings say it all; the parts' own warnings would only stand between them.
    configure_logging("console", level=logging.CRITICAL)
    findings = checkup(_ask)
    code = exit_code(findings)
    if as_json:
        shown = {"ok": code == HEALTHY, "checks": [finding.as_json() for finding in findings]}
        typer.echo(json.dumps(shown, ensure_ascii=False))
    else:
        _show(findings)
    return code


def exit_code(findings: list[Finding]) -> int:
    """What the first wrong finding makes of the command; warnings don't count."""
    first = next((finding for finding in findings if finding.is_wrong), None)
    if first is None:
        return HEALTHY
    return UNREACHABLE if first.unreachable else MISCONFIGURED


def _show(findings: list[Finding]) -> None:
    if not console.is_terminal:
        # One line each, however long, for grep.
        for one in findings:
            typer.echo(f"{one.state:<8} {one.name:<12} {_sentence(one)}")
        return
    table = Table.grid(padding=(0, 2))
    for one in findings:
        table.add_row(Text(one.state, style=_STYLES[one.state]), one.name, Text(_sentence(one)))
    console.print(table)


def _sentence(finding: Finding) -> str:
    found = f"{finding.found.rstrip('.')}."
    return f"{found} {finding.fix}" if finding.fix else found


def _ask(url: str) -> int:
    import httpx

    try:
        with httpx.stream("GET", url, timeout=TIMEOUT_SECONDS, follow_redirects=False) as response:
            return response.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PartUnreachable(f"{url} does not answer ({type(error).__name__})") from None
