"""`retroscribe limit`: how fast each kind of call may go, and a change of it while everything runs."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from config.setting_types import FASTEST_PER_SECOND
from workers.cli.common import console, duration, existing_resources
from workers.errors import InputError
from workers.limits.limiter import LimiterState
from workers.model import CallClass
from workers.pipeline import limit as limits
from workers.resources import Resources


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("limit")(show_or_set)


def show_or_set(
    call_class: Annotated[
        CallClass | None, typer.Argument(metavar="[CLASS]", help="submit, media, status or token.")
    ] = None,
    rate: Annotated[float | None, typer.Argument(metavar="[RATE]", help="The new limit, calls per second.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the limit of the settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text: how the limits stand then.")] = False,
) -> None:
    """Shows the limits, or changes one for the whole fleet at once, without a restart.

    A change is kept in the ledger until it is changed or reset, and goes before the setting (RETROSCRIBE_SUBMIT_LIMIT
    and so on).
    """
    resources = existing_resources()
    if rate is not None or reset:
        _change(resources, _wanted_class(call_class), _wanted_rate(rate, reset=reset), quiet=as_json)
        if not as_json:
            return
    classes = [call_class] if call_class else list(CallClass)
    found = [resources.limiter.snapshot(one) for one in classes]
    if as_json:
        typer.echo(json.dumps([_json(one, resources) for one in found]))
    else:
        console.print(_table(found))


def _json(one: LimiterState, resources: Resources) -> dict[str, Any]:
    setting = resources.settings.limit(resources.limiter.bucket(one.call_class))
    return {"class": str(one.call_class), "setting_per_second": setting, **limits.limit_json(one)}


def _wanted_class(call_class: CallClass | None) -> CallClass:
    if call_class is None:
        raise InputError("Say whose limit is to be reset: `retroscribe limit submit --reset`.")
    return call_class


def _wanted_rate(rate: float | None, *, reset: bool) -> float | None:
    if rate is not None and reset:
        raise InputError("RATE and --reset exclude each other: give one of them.")
    if rate is not None and not 0 < rate <= FASTEST_PER_SECOND:
        raise InputError(f"RATE is {rate:g}, but must be above 0 and at most {FASTEST_PER_SECOND:g} calls per second.")
    return rate


def _change(resources: Resources, call_class: CallClass, per_second: float | None, *, quiet: bool) -> None:
    in_force = limits.set_limit(resources, call_class, per_second)
    if quiet:
        return
    setting = resources.settings.limit(call_class)
    if per_second is None:
        said = f"{call_class}: the setting's {setting:g}/s again"
    else:
        said = f"{call_class}: {per_second:g}/s (the setting is {setting:g}/s)"
    when = "at once, on the whole fleet" if in_force else "as soon as Redis answers and a control worker runs"
    console.print(f"{said}, {when}.", markup=False)


def _table(found: list[LimiterState]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("calls", "limit", "learned", "others", "now", "used", "429s in 60 s", "gate"):
        table.add_column(title, justify="left" if title in ("calls", "gate") else "right")
    for one in found:
        gate = f"closed for {duration(one.gate_seconds)} ({one.gate_reason})" if one.gate_seconds else "open"
        rates = (one.configured, one.learned, one.others, one.rate, one.granted_per_second)
        shown = ["" if rate is None else f"{rate:.3g}/s" for rate in rates]
        table.add_row(str(one.call_class), *shown, str(one.rejected_last_minute), gate)
    return table
