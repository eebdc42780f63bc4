"""The plot of submissions and 429s over time, one small one for each contender and each limit."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.limiter.figures import NAMES, figures
from benchmarks.limiter.runs import Run

MISSING: Final = "No plot: matplotlib is not installed; install retroscribe with the extra `bench`, then run"
Result = tuple[Run, dict[str, Any]]


class PlotUnavailable(Exception):
    """matplotlib is not installed."""


def plot(results: Sequence[Result], path: Path) -> bool:
    """Writes the plot of the runs with two processes and a limit of 10/s that all contenders had.

    False when there are no such runs. Raises PlotUnavailable where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 an extra, and slow to load
    except ImportError:
        raise PlotUnavailable(MISSING) from None
    shown = {
        (run.contender, (run.kind, run.neighbour)): (run, result)
        for run, result in results
        if run.processes == 2 and run.rate == 10 and not run.really
    }
    if not shown:
        return False
    contenders = [name for name in NAMES if any(name == contender for contender, _ in shown)]
    # Side by side: the limits that most of them had.
    had = Counter(limit for _, limit in shown)
    limits = [limit for limit, count in had.items() if count == max(had.values())]
    figure = Figure(figsize=(3.6 * len(limits), 2.2 * len(contenders) + 0.6), layout="constrained")
    axes = figure.subplots(len(contenders), len(limits), squeeze=False, sharex=True)
    for row, contender in enumerate(contenders):
        for column, limit in enumerate(limits):
            axis = axes[row][column]
            if (contender, limit) in shown:
                _draw(axis, *shown[contender, limit])
            else:
                axis.set_axis_off()
    handles, labels = next(axis for line in axes for axis in line if axis.has_data()).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return True


def _draw(axis: Any, run: Run, result: dict[str, Any]) -> None:
    columns, found = result["columns"], figures(run, result["columns"])
    seconds = list(range(len(columns["passed"])))
    axis.fill_between(seconds, columns["available"], step="post", color="#d9d9d9", label="available")
    axis.step(seconds, columns["passed"], where="post", color="#1f77b4", linewidth=1, label="submissions/s")
    axis.step(seconds, columns["rejected_429"], where="post", color="#d62728", linewidth=1, label="429s/s")
    # A burst at the start of a minute would make all else flat.
    axis.set_ylim(0, 2.5 * run.server_rate)
    axis.set_xlim(0, run.seconds)
    neighbour = " beside a neighbour" if run.neighbour else ""
    axis.set_title(
        f"{NAMES[run.contender]}, {run.kind}{neighbour}\n{found.share:.0%} used, {found.rejected:.1%} 429s", fontsize=8
    )
    axis.tick_params(labelsize=7)
