"""What can be set on the sandbox."""

from dataclasses import dataclass

from workers.errors import InputError
from workers.sandbox.faults import read_faults
from workers.sandbox.limits import LIMITERS
from workers.sandbox.signing import signer

#: Submissions a second.
MAX_RATE = 100_000


@dataclass(frozen=True)
class SandboxConfig:
    """How one sandbox behaves; raises InputError naming the first value that can't be used.

    `port` 0 takes a free one; `rate` is submissions a second; `processing_seconds` is the median time of a
    transcription; `never_finish` is the share, 0 to 1, that stays in processing; `count` is how many recordings the
    catalogue of `seed` has; `buckets` "shared" lets all calls but the token's draw on the submissions' limit;
    `limiter` is how the limits count: "token-bucket" (a second's worth at once), "fixed-second", "sliding-second", or
    "minute": 60 times the rate in each minute from the sandbox's start or last reset, told in headers; `faults` is what
    PUT /_sandbox/faults takes, in JSON; `signature` is how webhooks are signed, as `workers.sandbox.signing` takes it.
    """

    host: str = "127.0.0.1"
    port: int = 8900
    rate: float = 10.0
    seed: int = 1
    processing_seconds: float = 2.0
    never_finish: float = 0.0
    count: int = 300
    buckets: str = "separate"
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"  # noqa: S105 made up, and printed at every start
    token_lifetime_seconds: int = 3600
    limiter: str = "token-bucket"
    faults: str = "{}"
    signature: str = ""

    def __post_init__(self) -> None:
        for name, holds, wanted in (
            ("port", 0 <= self.port <= 65535, "between 0 (any free port) and 65535"),
            ("rate", 0 < self.rate <= MAX_RATE, f"more than 0 and at most {MAX_RATE} a second"),
            ("processing_seconds", self.processing_seconds >= 0, "0 or more seconds"),
            ("never_finish", 0 <= self.never_finish <= 1, "a share between 0 and 1"),
            ("count", 1 <= self.count <= 100_000_000, "between 1 and 100000000 recordings"),
            ("buckets", self.buckets in ("separate", "shared"), "separate or shared"),
            ("token_lifetime_seconds", self.token_lifetime_seconds > 0, "more than 0 seconds"),
            ("limiter", self.limiter in LIMITERS, " or ".join(LIMITERS)),
        ):
            if not holds:
                raise InputError(f"The sandbox's {name} is {getattr(self, name)!r}: give {wanted}.")
        read_faults(self.faults)
        try:
            signer(self.signature)
        except ValueError as error:  # the value holds a secret
            raise InputError(f"The sandbox's signature can't be used: give {error}.") from None
