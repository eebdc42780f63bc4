"""The command's entry: collects the subcommands and turns errors into one sentence and an exit code."""

import sys
from collections.abc import Sequence
from typing import Final

import click
import structlog
import typer

from config.settings import SettingsProblem
from workers.cli import demo, doctor, parts, run, search, status, up
from workers.errors import (
    Halted,
    InputError,
    LedgerUnavailable,
    LimiterUnavailable,
    PartUnreachable,
    RetroscribeError,
    SearchUnavailable,
)

OK: Final = 0
OUR_ERROR: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130

_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (SettingsProblem, USAGE),
    (InputError, USAGE),
    (PartUnreachable, UNREACHABLE),
    (LedgerUnavailable, UNREACHABLE),
    (LimiterUnavailable, UNREACHABLE),
    (SearchUnavailable, UNREACHABLE),
    (Halted, UNREACHABLE),
    (RetroscribeError, OUR_ERROR),
)

app = typer.Typer(
    name="retroscribe",
    help="Backfills transcripts for call recordings: at the full rate limit, never twice, none lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (up, run, status, search, doctor, demo, parts):
    module.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; Python would complain once more when it closes the pipe.
        sys.stderr.close()
        return OK
    except Exception as error:  # noqa: BLE001 the last resort: a person gets a sentence, never a traceback
        return _explain(error)
    return code if isinstance(code, int) else OK


def _explain(error: Exception) -> int:
    for kind, code in _CODES:
        if isinstance(error, kind):
            sys.stderr.write(f"retroscribe: {error}\n")
            return code
    structlog.get_logger(__name__).debug("command_failed", exc_info=True)
    sys.stderr.write(
        f"retroscribe: a fault of Retroscribe itself ({type(error).__name__}: {error}); please report it.\n"
    )
    return OUR_ERROR


if __name__ == "__main__":
    main()
