"""From what the sandbox counted to the figures of the table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.limiter.runs import NEIGHBOUR_SHARES, Run

#: What a limit that had to be learned must come to, from then on.
SETTLED_SHARE: Final = 0.93
SETTLED_REJECTED: Final = 0.01
MANY: Final = 100_000


@dataclass(frozen=True)
class Figures:
    """Shares are of what is available: what the limit let through, less what the neighbour took.

    `rejected` is the share of calls that were answered 429. `half_seconds`: when half of what the limit nominally lets
    through was done, None if never; `settled_seconds` the second from which on share and 429s were as good as they have
    to be for a limit that is really lower than configured; `neighbour_lost` the share of the neighbour's calls that
    were refused.
    """

    share: float
    rejected: float
    share_all: float
    rejected_all: float
    half_seconds: int | None
    hours_for_many: float | None
    settled_seconds: int | None
    neighbour_lost: float


def figures(run: Run, columns: dict[str, Sequence[float]]) -> Figures:
    """The figures of a run; the steady state is from `run.steady_from` to its end."""
    steady = run.steady_from
    lost, taken = sum(columns["neighbour_429"]), sum(columns["neighbour"])
    passed = sum(columns["passed"][steady:])
    return Figures(
        share=_share(columns, steady),
        rejected=_rejected(columns, steady),
        share_all=_share(columns, 0),
        rejected_all=_rejected(columns, 0),
        half_seconds=_done_after(columns["passed"], half_of(run)),
        hours_for_many=MANY * (run.seconds - steady) / passed / 3600 if passed else None,
        settled_seconds=_settled_after(columns),
        neighbour_lost=lost / (lost + taken) if lost else 0.0,
    )


def half_of(run: Run) -> float:
    """Half of the submissions that the limit nominally lets through in the run."""
    left = 1 - sum(NEIGHBOUR_SHARES) / len(NEIGHBOUR_SHARES) if run.neighbour else 1
    return run.server_rate * run.seconds * left / 2


def _share(columns: dict[str, Sequence[float]], since: int) -> float:
    available = sum(columns["available"][since:])
    return sum(columns["passed"][since:]) / available if available else 0.0


def _rejected(columns: dict[str, Sequence[float]], since: int) -> float:
    rejected, passed = (sum(columns[name][since:]) for name in ("rejected_429", "passed"))
    return rejected / (rejected + passed) if rejected else 0.0


def _done_after(passed: Iterable[float], wanted: float) -> int | None:
    done = 0.0
    for second, count in enumerate(passed, 1):
        done += count
        if done >= wanted:
            return second
    return None


def _settled_after(columns: dict[str, Sequence[float]]) -> int | None:
    """The first second from which to the end both hold; never in the last tenth, where they could by chance."""
    seconds = len(columns["passed"])
    for since in range(seconds * 9 // 10):
        if _share(columns, since) >= SETTLED_SHARE and _rejected(columns, since) <= SETTLED_REJECTED:
            return since
    return None


HEADINGS: Final = (
    "who", "server's limiter", "limit", "processes", "neighbour", "share", "429s", "share, all", "429s, all",
    "half done", f"{MANY:,} take", "neighbour lost",
)  # fmt: skip
NAMES: Final = {"ours": "Retroscribe", "plain": "plain Celery", "script": "script"}


def table(results: Iterable[tuple[Run, dict[str, Any]]]) -> str:
    """The table as Markdown that can also be read as it is."""
    rows = [HEADINGS, *(_row(run, figures(run, result["columns"])) for run, result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def settled(run: Run, columns: dict[str, Sequence[float]]) -> str:
    """The sentence about a limit that is really lower than configured."""
    second = figures(run, columns).settled_seconds
    how = "did not settle" if second is None else f"settled after {second} s"
    return (
        f"{NAMES[run.contender]}, {run.rate}/s configured and really {run.really}/s: {how} (from then on at least "
        f"{SETTLED_SHARE:.0%} used and at most {SETTLED_REJECTED:.0%} 429s)."
    )


def _row(run: Run, found: Figures) -> tuple[str, ...]:
    limit = f"{run.rate}/s" + (f", really {run.really}/s" if run.really else "")
    return (
        NAMES[run.contender],
        run.kind,
        limit,
        f"{run.processes}",
        "yes" if run.neighbour else "",
        _percent(found.share),
        _percent(found.rejected),
        _percent(found.share_all),
        _percent(found.rejected_all),
        f"> {run.seconds} s" if found.half_seconds is None else f"{found.half_seconds} s",
        "for ever" if found.hours_for_many is None else f"{found.hours_for_many:.1f} h",
        _percent(found.neighbour_lost) if run.neighbour else "",
    )


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or not share else f"{share:.2%}"
