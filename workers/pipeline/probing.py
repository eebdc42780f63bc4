"""Looks up a sample of a list's media, as validate will, and nothing else."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Final

from workers.errors import ApiRateLimited, ApiUnavailable, MediaNotFound, RetroscribeError
from workers.model import CallClass, Media, Reason
from workers.pipeline import api
from workers.pipeline.estimates import Estimate, mean_of, share_of
from workers.pipeline.validate import judge
from workers.resources import Resources

#: As many calls at a time as use the limit of 20/s with answers that take 0.4 s.
THREADS: Final = 8
#: Whoever plans waits no longer than that for a gate.
PATIENCE_SECONDS: Final = 30.0
#: Of one look-up that is refused for the limit.
TRIES: Final = 3
#: That many look-ups fail, and the API is taken to be away; fewer may be the fault of their media.
OUTAGE: Final = 3


@dataclass(slots=True)
class Probed:
    """What the look-ups of a sample brought: the seconds of each usable recording, and why others would be rejected.

    `problem` says why not all of the `wanted` ones were looked up, `interrupted` that a person had enough; `failed`
    counts look-ups that had no answer which tells anything.
    """

    wanted: int
    usable: list[float] = field(default_factory=list)
    rejected: Counter[Reason] = field(default_factory=Counter)
    failed: int = 0
    problem: str | None = None
    interrupted: bool = False

    @property
    def answered(self) -> int:
        return len(self.usable) + self.rejected.total()

    def rejected_share(self, population: int) -> Estimate | None:
        """Which share of them all would be rejected."""
        return share_of(self.rejected.total(), self.answered, population)

    def seconds_each(self, population: int, longest: float) -> Estimate | None:
        """What one of them all has to be transcribed on average, those that would be rejected as nothing."""
        return mean_of([*self.usable, *(0.0 for _ in range(self.rejected.total()))], population, most=longest)


def probe(resources: Resources, media_ids: Sequence[str], tell: Callable[[Probed], object]) -> Probed:
    """Looks the media up under the fleet's limits, `tell`ing after each how far it is; nothing is stored.

    Never raises: whatever ends it early, Ctrl-C included, is in what it gives. Calls under way are waited for.
    """
    probed = Probed(len(media_ids))
    with ThreadPoolExecutor(THREADS, "probe") as pool:
        try:
            # The first goes alone: a client that is refused, or an API that is away, is not asked eight times at once.
            for some in (media_ids[:1], media_ids[1:]):
                asked = [pool.submit(_look_up, resources, media_id) for media_id in some]
                _collect(resources, probed, as_completed(asked), tell)
        except RetroscribeError as error:
            probed.problem = str(error)
        except KeyboardInterrupt:
            probed.interrupted = True
        finally:
            # Whoever waits for a permit gives up within a second.
            resources.stopping.set()
            pool.shutdown(cancel_futures=True)
            resources.stopping.clear()
    return probed


def _collect(
    resources: Resources, probed: Probed, done: Iterable[Future[Media | None]], tell: Callable[[Probed], object]
) -> None:
    for one in done:
        try:
            media = one.result()
        except ApiUnavailable:
            probed.failed += 1
            if probed.failed >= OUTAGE:
                raise
            continue
        problem = (Reason.MEDIA_NOT_FOUND, "") if media is None else judge(media, resources.settings)
        if problem:
            probed.rejected[problem[0]] += 1
        elif media is not None and media.duration_seconds is not None:
            probed.usable.append(media.duration_seconds)
        tell(probed)


def _look_up(resources: Resources, media_id: str, tries: int = TRIES) -> Media | None:
    """The media, None when there is none of that id; asks again after a 429 that is soon over."""
    try:
        return api.ask(
            resources,
            CallClass.MEDIA,
            lambda token, _permit: resources.client.get_media(token, media_id),
            max_wait_seconds=PATIENCE_SECONDS,
        )
    except MediaNotFound:
        return None
    except ApiRateLimited as error:
        # The gate that it closed is waited for with the next permit.
        if tries == 1 or (error.retry_after_seconds or 0) > PATIENCE_SECONDS:
            raise
    return _look_up(resources, media_id, tries - 1)
