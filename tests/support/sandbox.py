"""A sandbox in a process of its own, on a free port."""

import json
import select
import shlex
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx

HOUSE = Path(__file__).resolve().parents[2]
# The sandbox speaks plain HTTP; loading the system's certificates for each client would take most of the tests' time.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Sandbox:
    """Runs from its making until `stop`, or to the end of the `with` block.

    Options are SandboxConfig's fields, and `faults` those that are on from the start.
    """

    def __init__(self, faults: dict[str, Any] | None = None, **options: object) -> None:
        options["faults"] = json.dumps(faults or {})
        arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers.sandbox", "--port", "0", *arguments],
            cwd=HOUSE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.env = self._announced()
        except BaseException:
            self.stop()
            raise
        self.base_url = self.env["GENESYS_BASE_URL"]
        self.client_id = self.env["GENESYS_CLIENT_ID"]
        self.client_secret = self.env["GENESYS_CLIENT_SECRET"]
        self._http = httpx.Client(base_url=f"{self.base_url}/_sandbox", verify=NO_TLS, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stats(self) -> dict[str, Any]:
        """What the sandbox counted since its start or the last reset."""
        stats: dict[str, Any] = self._http.get("/stats").raise_for_status().json()
        return stats

    def totals(self) -> dict[str, Any]:
        """The stats without what has an entry a recording: quick, however many were accepted."""
        totals: dict[str, Any] = self._http.get("/stats", params={"brief": "1"}).raise_for_status().json()
        return totals

    def faults(self, **wanted: object) -> None:
        """Switches on exactly these faults; without any, all are off."""
        self._http.put("/faults", json=wanted).raise_for_status()

    def limit(self, rate: float) -> None:
        """Changes the limit to so many submissions a second."""
        self._http.put("/limits", json={"rate": rate}).raise_for_status()

    def neighbour(self, *shares: float, seconds: float) -> None:
        """Has another app take these shares of the limit, each for so many seconds."""
        self._http.put("/neighbour", json={"shares": shares, "seconds": seconds}).raise_for_status()

    def series(self) -> dict[str, Any]:
        """What became of submissions and of the neighbour's calls, second by second."""
        series: dict[str, Any] = self._http.get("/series").raise_for_status().json()
        return series

    def reset(self) -> None:
        """Sets the counters to zero and starts the limits anew, without a neighbour."""
        self._http.post("/reset").raise_for_status()

    def stop(self) -> int:
        """Ends the process, waits for it and returns its exit code; safe to repeat."""
        if hasattr(self, "_http"):
            self._http.close()
        self.process.terminate()
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def _announced(self) -> dict[str, str]:
        """The three lines to export, as a dict."""
        assert self.process.stdout is not None
        env: dict[str, str] = {}
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        while ready and len(env) < 3:
            line = self.process.stdout.readline()
            if not line:
                break
            name, _, value = shlex.split(line)[1].partition("=")
            env[name] = value
        assert len(env) == 3, "the sandbox did not start; its error output says why"
        return env
