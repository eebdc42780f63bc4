"""A plan as a person reads it."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workers.cli.common import counted, duration
from workers.intake.unusable import Kind
from workers.ledger.states import ACTIVE, NEEDS_PERSON
from workers.model import Lane, State
from workers.pipeline.estimates import FEWEST_FOR_A_RANGE, Estimate
from workers.pipeline.forecast import Plan
from workers.pipeline.probing import Probed

#: Kinds of unusable lines, and other backfills, that are shown; `--json` has all.
SHOWN_KINDS: Final = 5
SHOWN_OTHERS: Final = 3
_DONE: Final = (State.COMPLETED, State.INDEXED)


def shown(plan: Plan) -> RenderableType:
    """What is in the list, what it would take, and what stands in the way."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for name, figure, remark in (*_counts(plan), *_sample(plan), *_takes(plan)):
        table.add_row(name, figure, Text(remark))
    heading = Text.assemble((plan.backfill, "bold"), "  plan: nothing is sent, and nothing is stored")
    return Group(heading, table, *map(Text, _remarks(plan)))


def _counts(plan: Plan) -> Iterator[tuple[str, str, str]]:
    found = plan.found
    yield "entries", f"{found.entries:,}", ""
    anew = f"{found.begin_anew:,} of them ended unpaid in another backfill and begin anew" if found.begin_anew else ""
    yield "new", f"{found.new:,}", anew
    if found.duplicates_in_list:
        yield "in the list again", f"{found.duplicates_in_list:,}", "the same request as an earlier line, sent once"
    if found.duplicates:
        yield "asked for before", f"{found.duplicates.total():,}", f"not paid again: {_stages(found.duplicates)}"
    if found.repeated:
        remark = f"from an earlier run of this list: {_stages(found.repeated)}"
        yield "known", f"{found.repeated.total():,}", remark
    if found.unusable.number:
        yield "unusable", f"{found.unusable.number:,}", "lines that can't be used, see below"


def _stages(states: Counter[State]) -> str:
    """How many are done, under way and so on."""
    done = sum(states[state] for state in _DONE)
    under_way = sum(states[state] for state in ACTIVE if state not in _DONE)
    waiting = sum(states[state] for state in NEEDS_PERSON)
    ended = states.total() - done - under_way - waiting
    stages = {"done": done, "under way": under_way, "parked for a person": waiting, "ended without a transcript": ended}
    return ", ".join(f"{number:,} {stage}" for stage, number in stages.items() if number)


def _sample(plan: Plan) -> Iterator[tuple[str, str, str]]:
    probed = plan.probed
    if probed is None or not probed.answered:
        return
    yield "looked up", f"{probed.answered:,}", f"of the new ones, chosen at random{_reasons(probed)}"
    share = probed.rejected_share(plan.found.new)
    if share is not None:
        yield (
            "rejected",
            f"{share.value:.1%}",
            f"of the new ones, not submitted and not paid{_between(share, '{:.1%}'.format)}",
        )
    if plan.audio_hours is not None:
        hours = plan.audio_hours
        yield "audio", f"{_figure(hours.value)} h", f"to be transcribed{_between(hours, _figure, ' h')}"
    if plan.cost is not None:
        yield "cost", _money(plan.cost.value), f"at {plan.price:g} a minute{_between(plan.cost, _money)}"


def _takes(plan: Plan) -> Iterator[tuple[str, str, str]]:
    if not plan.found.new:
        return
    if plan.audio_hours is None:
        remark = f"each lasts {plan.longest:g} s at most; --probe 200 estimates it from a sample"
        yield "audio at most", f"{_figure(plan.audio_hours_at_most)} h", remark
        if plan.price is not None:
            most = plan.audio_hours_at_most * 60 * plan.price
            yield "cost at most", _money(most), f"at {plan.price:g} a minute"
    calls = plan.calls()
    each = [f"{calls['media']:,} media", f"{calls['submit']:,} submit", f"{calls['token']:,} token"]
    if calls["status"]:
        each.insert(2, f"{calls['status']:,} status at least, for no webhook can come (RETROSCRIBE_PUBLIC_URL)")
    yield "API calls", f"{sum(calls.values()):,}", ", ".join(each)
    yield "time", duration(plan.seconds), _speed(plan)
    if plan.hours is not None:
        yield "only between", str(plan.hours), "which the time has in it"
    if plan.submitted_at is not None:
        when = datetime.fromtimestamp(plan.submitted_at).astimezone().strftime("%a %Y-%m-%d %H:%M %Z")
        yield "submitted by", when, "if it is sent now; transcripts follow as the API gets to them"


def _speed(plan: Plan) -> str:
    pace = plan.pace
    said = f"at {pace.submit_rate:.3g} submissions/s, limit {pace.limit:g}/s"
    return said if pace.measured else f"{said} as configured, for Redis can't be asked"


def _remarks(plan: Plan) -> Iterator[str]:
    pace = plan.pace
    if not plan.has_ledger:
        yield "There is no ledger yet, so nothing of it was asked for before."
    if plan.found.new and pace.own:
        yield f"{counted(pace.own)} of {plan.backfill} wait already and go first; the time has them in it."
    if plan.found.new and pace.others:
        yield _others(plan)
    if plan.found.new and pace.gate_seconds > 1:
        yield f"No call can be made for {duration(pace.gate_seconds)}; the time has that in it."
    yield from pace.obstacles
    if plan.probed is not None:
        yield from _shortcomings(plan.probed)
    kinds = plan.found.unusable.kinds()
    yield from map(_kind, kinds[:SHOWN_KINDS])
    if len(kinds) > SHOWN_KINDS:
        yield f"{len(kinds) - SHOWN_KINDS} more kinds of unusable lines: --json names them."
    if kinds:
        yield "`run` leaves unusable lines out and keeps them with their reasons; --rejected FILE writes them now."


def _others(plan: Plan) -> str:
    others = sorted(plan.pace.others.items(), key=lambda one: -one[1])
    names = ", ".join(f"{name} ({number:,})" for name, number in others[:SHOWN_OTHERS])
    more = f" and {len(others) - SHOWN_OTHERS} more" if len(others) > SHOWN_OTHERS else ""
    if plan.pace.lane == Lane.LIVE:
        return f"Recordings of lane backfill wait, and let lane live go first: {names}{more}."
    return f"Other backfills take turns with it, and the time has that in it: {names}{more}."


def _shortcomings(probed: Probed) -> Iterator[str]:
    so_far = f"after {probed.answered:,} of {probed.wanted:,}"
    if probed.interrupted:
        yield f"Looking up the sample was interrupted {so_far}."
    if probed.problem:
        yield f"Looking up the sample ended {so_far}: {probed.problem}"
    elif probed.failed:
        yield f"{probed.failed} of the look-ups were not answered, and are left out."
    if 0 < probed.answered < min(FEWEST_FOR_A_RANGE, probed.wanted + 1):
        yield f"So few say little: from {FEWEST_FOR_A_RANGE} on there is a range, and --probe 200 makes it narrow."


def _kind(kind: Kind) -> str:
    first, *rest = kind.lines
    if kind.number == 1:
        return f"line {first}: {kind.reason}"
    more = f", {', '.join(map(str, rest))}{', ...' if kind.number > len(kind.lines) else ''}"
    return f"{kind.number:,} unusable like line {first}: {kind.reason} (lines {first}{more})"


def _reasons(probed: Probed) -> str:
    if not probed.rejected:
        return ""
    reasons = ", ".join(sorted(f"{reason} {number}" for reason, number in probed.rejected.items()))
    return f"; would be rejected: {reasons}"


def _between(one: Estimate, show: Callable[[float], str], unit: str = "") -> str:
    """The range, where there is one that says something."""
    if one.low is None or one.high is None or one.low == one.high:
        return ""
    return f", between {show(one.low)} and {show(one.high)}{unit} (95 % sure)"


def _figure(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _money(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
