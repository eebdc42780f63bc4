"""Sends events from a process of its own and measures the answers: one JSON object, latencies in milliseconds.

python -m benchmarks.receiver.load PORT EVENTS FROM SIZE SECONDS CONNECTIONS RATE; RATE 0 is as fast as answers come,
and FROM -1 takes all events again and again.
At a rate, an event's time runs from the moment at which it was to be sent: one that is held up by others is late too.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from benchmarks.receiver.accepted import Waiting, body, speech
from workers.pipeline.callbacks import CALLBACK_PATH


class Run:
    """One load: what is still to be sent, and what came back."""

    def __init__(self, port: int, events: Iterator[Waiting], size: int, seconds: float, rate: float) -> None:
        self._port = port
        self._events = events
        self._segments = speech(size)
        self._rate = rate
        self._sent = 0
        self._began = time.perf_counter()
        self._ends = self._began + seconds
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []

    async def send(self) -> None:
        """One connection, which takes the next event whenever it is free."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (due := self._next()) is not None:
            one = next(self._events, None)
            if one is None:
                raise SystemExit("there are not enough events")
            content = body(one, self._segments)
            head = (
                f"POST {CALLBACK_PATH}/{one.token} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(content)}\r\n\r\n"
            )
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            began = due if self._rate else time.perf_counter()
            writer.write(head.encode() + content)
            self.statuses[await _answer(reader)] += 1
            self.seconds.append(time.perf_counter() - began)
        writer.close()

    def _next(self) -> float | None:
        """When the next event is to leave, None after the last one."""
        due = self._began + self._sent / self._rate if self._rate else time.perf_counter()
        self._sent += 1
        return due if due < self._ends else None


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split(b" ", 2)[1])


async def measure(run: Run, connections: int) -> dict[str, object]:
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(run.send())
    seconds, times = time.perf_counter() - began, sorted(run.seconds)
    shares = {name: times[int(len(times) * share)] * 1000 for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {"answers": dict(run.statuses), "rate": len(times) / seconds, **shares, "most": times[-1] * 1000}


def main(port: str, events: str, first: str, size: str, seconds: str, connections: str, rate: str) -> None:
    with Path(events).open(encoding="ascii") as file:
        lines = cycle(file.readlines()) if int(first) < 0 else islice(file, int(first), None)
        rows = (Waiting(*json.loads(line)) for line in lines)
        run = Run(int(port), rows, int(size), float(seconds), float(rate))
        print(json.dumps(asyncio.run(measure(run, int(connections)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
