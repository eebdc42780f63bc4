"""The sandbox of one run, in a process of its own: what it counted is the truth."""

import re
from typing import Any, Final

import httpx

from benchmarks.limiter.runs import NEIGHBOUR_SHARES, Run
from benchmarks.limiter.stage import Stage
from workers.sandbox.catalogue import Catalogue

SEED: Final = 1
NAME: Final = "sandbox"


class Api:
    """A sandbox with the run's limiter that takes every submission and never finishes one: submits are all there is."""

    def __init__(self, run: Run, stage: Stage) -> None:
        self._run = run
        # Of a hundred recordings of the catalogue one is missing.
        count = run.recordings * 100 // 98
        options = {"port": 0, "limiter": run.kind, "rate": run.server_rate, "count": count, "never-finish": 1}
        arguments = [part for name, value in options.items() for part in (f"--{name}", f"{value}")]
        stage.python(NAME, "workers.sandbox", *arguments, f"--seed={SEED}", env={})
        self.env: dict[str, str] = {}
        stage.wait_for(lambda: self._announced(stage), "The start of the sandbox")
        self.url = self.env["GENESYS_BASE_URL"]
        self._http = httpx.Client(base_url=self.url, trust_env=False)
        catalogue = Catalogue(SEED, count)
        there = (media_id for media_id in catalogue.media_ids() if catalogue.media(media_id))
        self.media_ids = [media_id for media_id, _ in zip(there, range(run.recordings), strict=False)]

    def token(self) -> str:
        """An access token for those who are handed one."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.env["GENESYS_CLIENT_ID"],
            "client_secret": self.env["GENESYS_CLIENT_SECRET"],
            "scope": "media:transcription:write",
        }
        answer = self._http.post("/api/v2/oauth/token", data=form).raise_for_status()
        return str(answer.json()["access_token"])

    def begin(self) -> None:
        """Starts the limits, their windows and the series anew, and the neighbour if there is one."""
        self._http.post("/_sandbox/reset").raise_for_status()
        if self._run.neighbour:
            wanted = {"shares": NEIGHBOUR_SHARES, "seconds": self._run.seconds / len(NEIGHBOUR_SHARES)}
            self._http.put("/_sandbox/neighbour", json=wanted).raise_for_status()

    def series(self) -> dict[str, list[float]]:
        """The columns of the series, a figure for each second of the run."""
        shown: dict[str, Any] = self._http.get("/_sandbox/series").raise_for_status().json()
        return {name: column[: self._run.seconds] for name, column in shown.items() if isinstance(column, list)}

    def submits(self) -> int:
        """How many submissions were made so far, 429s included."""
        return int(self._stats()["submits"])

    def accepted(self) -> set[str]:
        """The media ids that were accepted so far."""
        return set(self._stats()["accepted"])

    def fault(self, faults: dict[str, Any]) -> None:
        """Makes the API misbehave."""
        self._http.put("/_sandbox/faults", json=faults).raise_for_status()

    def close(self) -> None:
        self._http.close()

    def _stats(self) -> dict[str, Any]:
        return dict(self._http.get("/_sandbox/stats").raise_for_status().json())

    def _announced(self, stage: Stage) -> bool:
        found = (re.match(r"export (GENESYS_\w+)=(\S+)", line) for line in stage.said(NAME))
        self.env = {match[1]: match[2] for match in found if match}
        return len(self.env) == 3
