"""What is measured: who submits, against which limiter, with how many processes, beside whom."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Final

OURS, PLAIN, SCRIPT = "ours", "plain", "script"
KINDS: Final = ("token-bucket", "fixed-second", "sliding-second", "minute")
#: What the neighbour takes of the limit, in turns of a fifth of the run.
NEIGHBOUR_SHARES: Final = (0.0, 0.5, 0.2, 0.8, 0.0)
SECONDS: Final = 120


@dataclass(frozen=True)
class Run:
    """One measurement; `rate` is the published limit, `really` what the server lets through if that is less."""

    contender: str
    kind: str
    rate: int = 10
    processes: int = 2
    neighbour: bool = False
    really: int | None = None
    seconds: int = SECONDS

    @property
    def name(self) -> str:
        """For people and `--only`: ours-minute-10x2-neighbour is two processes at 10/s."""
        ending = "-neighbour" if self.neighbour else f"-really-{self.really}" if self.really else ""
        return f"{self.contender}-{self.kind}-{self.rate}x{self.processes}{ending}"

    @property
    def server_rate(self) -> int:
        return self.really or self.rate

    @property
    def steady_from(self) -> int:
        """The second from which the steady state counts: a minute begins there, and a limit had time to be learned."""
        return self.seconds // (2 if self.kind == "minute" or self.really else 4)

    @property
    def recordings(self) -> int:
        """How many are to be submitted: more than can be, even if one more window or bucket is used up at once."""
        return int(self.rate * (self.seconds + (60 if self.kind == "minute" else 10)) * 1.1)


def _all() -> tuple[Run, ...]:
    alone = [Run(OURS, kind, processes=processes) for kind in KINDS for processes in (1, 2, 4)]
    fast = [Run(OURS, "token-bucket", rate=100)]
    beside = [Run(OURS, kind, neighbour=True) for kind in KINDS]
    less = [Run(OURS, "token-bucket", really=6)]
    others = [
        Run(contender, kind, neighbour=neighbour)
        for contender in (PLAIN, SCRIPT)
        for kind in ("token-bucket", "minute")
        for neighbour in (False, True)
    ]
    single = [Run(SCRIPT, kind, processes=1) for kind in ("token-bucket", "minute")]
    return (*alone, *fast, *beside, *less, *others, *single)


ALL: Final = _all()
QUICK: Final = tuple(Run(contender, "token-bucket", seconds=10) for contender in (OURS, PLAIN))


def select(patterns: Iterable[str] | None, seconds: int | None, *, quick: bool) -> list[Run]:
    """The runs whose name has one of the patterns in it, all without patterns; `seconds` is another length for each."""
    runs = QUICK if quick and not patterns else ALL
    wanted = [run for run in runs if not patterns or any(fnmatch(run.name, f"*{one}*") for one in patterns)]
    length = seconds or (QUICK[0].seconds if quick else None)
    return [replace(run, seconds=length) for run in wanted] if length else wanted
