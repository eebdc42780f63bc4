"""The queues, and which worker role consumes which."""

from typing import Final

LIVE: Final = "retroscribe.live"
TRACK: Final = "retroscribe.track"
SUBMIT: Final = "retroscribe.submit"
VALIDATE: Final = "retroscribe.validate"
INDEX: Final = "retroscribe.index"
POLL: Final = "retroscribe.poll"
INTAKE: Final = "retroscribe.intake"
CONTROL: Final = "retroscribe.control"

ALL: Final = (LIVE, TRACK, SUBMIT, VALIDATE, INDEX, POLL, INTAKE, CONTROL)

# The order is the priority: a worker takes from a later queue only when the earlier ones are empty. Finishing what
# has been paid for (track) comes before paying for more (submit), and that before looking at new media (validate).
ROLES: Final[dict[str, tuple[str, ...]]] = {
    "pipeline": (LIVE, TRACK, SUBMIT, VALIDATE),
    "live": (LIVE,),
    "index": (INDEX, POLL, INTAKE),
    "control": (CONTROL,),
}

# Threads a worker process. The fleet needs about limit x latency x 2 for the pipeline: more add nothing.
THREADS: Final[dict[str, int]] = {"pipeline": 16, "live": 2, "index": 4, "control": 1}
