"""`retroscribe doctor`: what is wrong with this deployment, and how to mend it."""

import json
import logging
import ssl
import time
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from rich.table import Table
from rich.text import Text

from config.logging import configure_logging
from workers.cli.common import console
from workers.errors import PartUnreachable
from workers.pipeline.checkup_http import Reply
from workers.pipeline.finding import Finding

HEALTHY: Final = 0
MISCONFIGURED: Final = 2
UNREACHABLE: Final = 4
TIMEOUT_SECONDS: Final = 5.0
MOST_BYTES: Final = 4096
_STYLES: Final = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False) -> int:
    """Checks settings, parts and API, and says how to mend what is wrong.

    Exit codes: 0 nothing is wrong, 2 settings or credentials are, 4 a part can't be reached; the first one decides.
    """
    from workers.pipeline.checkup import checkup
    from workers.receiver.signature import sign

    # The findings say it all; the parts' own warnings would only stand between them.
    configure_logging("console", level=logging.CRITICAL)
    findings = checkup(_ask, sign)
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


def _ask(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
    """Makes one request; see `Ask`."""
    import httpx

    host, began, at = "://".join(urlsplit(url)[:2]), time.monotonic(), time.time()
    method = "GET" if body is None else "POST"
    try:
        with httpx.stream(method, url, content=body, headers=headers, timeout=TIMEOUT_SECONDS) as response:
            start = next(response.iter_bytes(MOST_BYTES), b"")
            return Reply(response.status_code, dict(response.headers), start, time.monotonic() - began, at)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PartUnreachable(f"{host} {_trouble(error)}") from None


def _trouble(error: Exception) -> str:
    """What the caller sees of it: nothing of the URL's path, which may hold a token."""
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        return f"can't be connected to within {TIMEOUT_SECONDS:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"does not answer within {TIMEOUT_SECONDS:g} s"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"has a certificate that is not trusted here ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return f"speaks no TLS that is understood here ({cause.reason})"
    return f"does not answer ({type(error).__name__})"
