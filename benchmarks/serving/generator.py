"""Load for one VM, from a process of its own: `python -m benchmarks.serving.generator`.

Open loop (`--rate`): requests leave on schedule whether or not earlier ones were answered, and latency counts from the
scheduled time. Closed loop (`--concurrency`): so many connections, each sending its next request when the last was
answered. Nothing is sent twice. It writes and reads HTTP/1.1 by hand, because it shares the processors with what it
measures: a request costs it about a tenth of what a client library would take.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self, cast

import uvloop

import contract
from benchmarks.serving.vm import ROOT

MAX_CONNECTIONS: Final = 4000
"""Beyond so many unanswered requests, due ones are not sent and counted as such."""
NOT_SENT: Final = "not sent"
WRONG: Final = "200 with another class than expected"
_ENOUGH: Final = 10
_TIMEOUT_S: Final = 30.0
_CLASS: Final = re.compile(rb'"classes":([0-9]+)')


@dataclass(slots=True)
class Load:
    """What came of a run. Times in seconds."""

    asked_per_s: float = 0.0
    """0: closed loop."""
    elapsed_s: float = 0.0
    """From the first to the last scheduled request; what is answered later counts as well."""
    answers: dict[str, int] = field(default_factory=dict)
    """By status, or by what went wrong instead."""
    good_s: list[float] = field(default_factory=list)
    """Latency of each answer with 200."""
    good_in_time: int = 0
    """Of them, how many came before a closed loop's time was over."""
    finished_s: float = 0.0
    """From a closed loop's first request to its last answer."""
    refused_s: list[float] = field(default_factory=list)
    """Latency of each answer with 429."""
    lag_s: list[float] = field(default_factory=list)
    """How much later than scheduled each request left: large means that the generator was the limit."""
    connections: int = 0
    """Opened in all."""
    cpu_s: float = 0.0
    """Processor time of the generator."""

    @property
    def goodput(self) -> float:
        """Answers with 200 a second."""
        return len(self.good_s) / self.elapsed_s

    @property
    def closed_loop_rate(self) -> float:
        """Answers with 200 a second: those in time, or where hardly one was, all of them over the time they took."""
        if self.good_in_time >= _ENOUGH:
            return self.good_in_time / self.elapsed_s
        return len(self.good_s) / self.finished_s

    @classmethod
    def of_json(cls, text: str) -> Self:
        """What the process wrote."""
        return cls(**json.loads(text))

    def count(self, what: str, number: int = 1) -> None:
        """Note answers of one kind."""
        self.answers[what] = self.answers.get(what, 0) + number


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and the classes that must be in the answer, if those are known."""

    content: bytes
    classes: Sequence[int] | None = None

    def is_answered_by(self, body: bytes) -> bool:
        """Whether an answer names these classes."""
        return self.classes is None or [int(found) for found in _CLASS.findall(body)] == list(self.classes)


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._due: float | None = None
        self._request = Request(b"")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class that asyncio knows.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: Request, due: float) -> None:
        assert self._transport is not None
        self._due, self._request = due, request
        self._transport.write(request.content)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        if len(body) < length:
            return
        self._received = b""
        due, self._due = self._due, None
        closes = b"connection: close" in lines
        assert due is not None, "an answer that nobody asked for"
        if closes and self._transport is not None:
            self._transport.close()
        status = head[9:12].decode()
        if status == "200" and not self._request.is_answered_by(body):
            status = WRONG
        self._run.answered(None if closes else self, status, due)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due is not None:
            self._run.answered(None, f"connection lost ({type(exc).__name__})", self._due)
            self._due = None
        self._run.lost(self)


class _Run:
    def __init__(self, host: str, port: int, requests: Sequence[Request], load: Load) -> None:
        self._host, self._port = host, port
        self._requests = requests
        self._load = load
        self._idle: list[_Connection] = []
        self._sent = 0
        self._under_way = 0
        self._finished = asyncio.Event()
        self._again = False
        """Whether an answer is followed by the next request."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def open_loop(self, rate: float, seconds: float) -> None:
        count = max(1, round(rate * seconds))
        began = time.monotonic()
        for index in range(count):
            due = began + index / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._load.lag_s.append(time.monotonic() - due)
            if self._under_way >= MAX_CONNECTIONS:
                self._load.count(NOT_SENT)
                continue
            self._send(due)
        self._load.elapsed_s = count / rate
        await self._rest()

    async def closed_loop(self, concurrency: int, seconds: float) -> None:
        began = time.monotonic()
        self._again = True
        for _ in range(concurrency):
            self._send(time.monotonic())
        await asyncio.sleep(seconds)
        self._again = False
        self._load.elapsed_s = time.monotonic() - began
        self._load.good_in_time = len(self._load.good_s)
        await self._rest()
        self._load.finished_s = time.monotonic() - began

    def answered(self, connection: _Connection | None, status: str, due: float) -> None:
        self._under_way -= 1
        now = time.monotonic()
        self._load.count(status)
        if status == "200":
            self._load.good_s.append(now - due)
        elif status == "429":
            self._load.refused_s.append(now - due)
        if connection is not None:
            self._idle.append(connection)
        if self._again:
            self._send(now)
        elif not self._under_way:
            self._finished.set()

    def lost(self, connection: _Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def _send(self, due: float) -> None:
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        self._under_way += 1
        if self._idle:
            self._idle.pop().send(request, due)
        else:
            task = asyncio.create_task(self._connect(request, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, request: Request, due: float) -> None:
        self._load.connections += 1
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except OSError as error:
            self.answered(None, f"cannot connect ({type(error).__name__})", due)
            return
        connection.send(request, due)

    async def _rest(self) -> None:
        if self._under_way:
            self._finished.clear()
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await self._finished.wait()
            except TimeoutError:
                self._load.count("no answer", self._under_way)


def request_bytes(host: str, body: bytes) -> bytes:
    """A whole `:predict` request with a JSON body."""
    head = f"POST {contract.PREDICT_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def generate(
    host: str,
    bodies: Sequence[Path],
    seconds: float,
    *,
    rate: float | None = None,
    concurrency: int | None = None,
    port: int = contract.API_PORT,
    classes: Path | None = None,
) -> Load:
    """Run the generator in a process of its own: `rate` requests a second, or `concurrency` at a time.

    `classes` is a JSON file with the classes that each body's answer must name.
    """
    how = ["--rate", str(rate)] if rate is not None else ["--concurrency", str(concurrency)]
    how += ["--port", str(port), *([] if classes is None else ["--classes", str(classes)])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.generator", host, *how, "--seconds", str(seconds), *bodies],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Load.of_json(done.stdout)


def main() -> int:
    """Command line: one run, its `Load` as JSON on stdout."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.generator", description=__doc__)
    parser.add_argument("host", help="address of the VM")
    parser.add_argument("bodies", type=Path, nargs="+", help="files with JSON bodies, sent in turn")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--port", type=int, default=contract.API_PORT)
    parser.add_argument(
        "--classes", type=Path, help="JSON: a list of classes for each body, which its answer must name"
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--rate", type=float, help="requests a second")
    how.add_argument("--concurrency", type=int, help="requests at a time")
    arguments = parser.parse_args()
    load = Load(asked_per_s=arguments.rate or 0.0)
    expected = json.loads(arguments.classes.read_text()) if arguments.classes else [None] * len(arguments.bodies)
    requests = [
        Request(request_bytes(arguments.host, body.read_bytes()), classes)
        for body, classes in zip(arguments.bodies, expected, strict=True)
    ]

    async def go() -> None:
        run = _Run(arguments.host, arguments.port, requests, load)
        if arguments.rate is not None:
            await run.open_loop(arguments.rate, arguments.seconds)
        else:
            await run.closed_loop(arguments.concurrency, arguments.seconds)

    uvloop.run(go())
    load.cpu_s = time.process_time()
    json.dump(asdict(load), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
