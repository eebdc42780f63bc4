"""The command's entry: collects the subcommands and turns errors into one sentence and an exit code."""

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from config.setting_types import SettingsProblem
from workers.cli import (
    demo,
    doctor,
    explain,
    export,
    forget,
    limit,
    listing,
    operations,
    parts,
    plan,
    reconcile,
    run,
    search,
    show,
    status,
    steering,
    up,
)
from workers.errors import (
    Halted,
    InputError,
    LedgerError,
    LedgerUnavailable,
    LimiterUnavailable,
    PartUnreachable,
    RetroscribeError,
    SearchUnavailable,
    TransitionNotAllowed,
)

OK: Final = 0
OUR_ERROR: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130

_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (SettingsProblem, USAGE),
    (InputError, USAGE),
    (TransitionNotAllowed, OUR_ERROR),
    (LedgerError, USAGE),
    (PartUnreachable, UNREACHABLE),
    (LedgerUnavailable, UNREACHABLE),
    (LimiterUnavailable, UNREACHABLE),
    (SearchUnavailable, UNREACHABLE),
    (Halted, UNREACHABLE),
    (RetroscribeError, OUR_ERROR),
)

app = typer.Typer(
    name="retroscribe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    up,
    plan,
    run,
    status,
    listing,
    explain,
    operations,
    steering,
    limit,
    search,
    show,
    export,
    reconcile,
    forget,
    doctor,
    demo,
    parts,
):
    module.register(app)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 as typer calls it
    if wanted:
        typer.echo(f"retroscribe {version('retroscribe')}")
        raise typer.Exit


@app.callback()
def _command(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Backfills transcripts for call recordings: at the full rate limit, never twice, none lost."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=arguments, prog_name="retroscribe", standalone_mode=False)
    except TyperException as error:
        return _misused(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            return OK  # whoever read our output has had enough
        raise
    except Exception as error:  # noqa: BLE001 the last resort: a person gets a sentence, never a traceback
        return _explain(error)
    return code if isinstance(code, int) else OK


def _misused(error: TyperException) -> int:
    """Says what is wrong with the command line, unless its help has been shown instead."""
    said = " ".join(error.format_message().replace("Value error, ", "").split())
    if said:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "retroscribe"
        stop = "" if said.endswith(("?", ".")) else "."
        sys.stderr.write(f"retroscribe: {said}{stop} `{command} --help` shows what there is.\n")
    return error.exit_code


def _explain(error: Exception) -> int:
    for kind, code in _CODES:
        if isinstance(error, kind):
            sys.stderr.write(f"retroscribe: {error}\n")
            return code
    if isinstance(error, OSError) and error.filename:
        sys.stderr.write(
            f"retroscribe: {error.filename} can't be used ({error.strerror}): correct the path or its permissions.\n"
        )
        return USAGE
    sys.stderr.write(f"retroscribe: a fault of Retroscribe itself ({_fault(error)}); please report it.\n")
    return OUR_ERROR


def _fault(error: Exception) -> str:
    """Where it happened rather than what it says: an unforeseen error's text may hold anything."""
    house = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if Path(frame.filename).is_relative_to(house)][-1]
    return f"{type(error).__name__} at {last.filename.removeprefix(f'{house.parent}/')}:{last.lineno}"


if __name__ == "__main__":
    main()
