"""Constant-rate load: requests leave on schedule whether or not earlier ones were answered (open loop).

A closed loop would slow down with the fleet and hide what its users suffer. Latency is therefore counted from the
scheduled time. A POST is never repeated: a failure is a failure and is kept by kind.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from client.errors import ClientError
from client.rendering import Table
from contract import PREDICT_PATH, SERVED_BY_HEADER

MAX_RATE: Final = 5000.0
"""Requests a second that one process can hope to schedule."""
MAX_SECONDS: Final = 3600.0
MAX_IN_FLIGHT: Final = 4000
"""Beyond this many unanswered requests, due ones are not sent and counted as such: memory and sockets are bounded."""
MIN_SAMPLES_FOR_P99: Final = 200
"""Fewer answers leave less than two samples above the 99th percentile."""
NOT_SENT: Final = f"not sent: {MAX_IN_FLIGHT} in flight"


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """What came of a run."""

    rate: float
    """Requests a second, as asked for."""
    scheduled: int
    elapsed_s: float = 0.0
    """From the first scheduled request to the last answer."""
    latencies_s: list[float] = field(default_factory=list)
    """Of good answers, from the scheduled time to the last byte."""
    failures: Counter[str] = field(default_factory=Counter)
    served_by: Counter[str] = field(default_factory=Counter)
    worst_lateness_s: float = 0.0
    """How far behind its schedule the generator itself was at worst: large means this machine was the limit."""


def is_loopback(endpoint: str) -> bool:
    """Whether the endpoint is on this machine."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_size(rate: float, seconds: float) -> None:
    """Refuse what one process cannot generate honestly.

    Raises:
        ClientError: rate or duration out of range.
    """
    if not 0 < rate <= MAX_RATE:
        raise ClientError(f"--rate is {rate:g} a second", f"Choose more than 0 and at most {MAX_RATE:g}.")
    if not 0 < seconds <= MAX_SECONDS:
        raise ClientError(f"--seconds is {seconds:g}", f"Choose more than 0 and at most {MAX_SECONDS:g}.")
    if rate * seconds < 1:
        raise ClientError(f"{rate:g} a second for {seconds:g} s is less than one request", "Raise --rate or --seconds.")


async def generate(
    endpoint: str, bodies: Sequence[bytes], *, rate: float, seconds: float, timeout_s: float
) -> LoadResult:
    """POST the bodies in turn, `rate` a second for `seconds`, and return when each was answered or timed out."""
    count = math.floor(rate * seconds)
    result = LoadResult(rate=rate, scheduled=count)
    in_flight: set[asyncio.Task[None]] = set()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        began = time.monotonic()
        for index in range(count):
            due = began + index / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            result.worst_lateness_s = max(result.worst_lateness_s, time.monotonic() - due)
            if len(in_flight) >= MAX_IN_FLIGHT:
                result.failures[NOT_SENT] += 1
                continue
            task = asyncio.create_task(
                _send(session, endpoint + PREDICT_PATH, bodies[index % len(bodies)], due, result)
            )
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
        if in_flight:
            await asyncio.wait(in_flight)
        result.elapsed_s = time.monotonic() - began
    return result


async def _send(session: aiohttp.ClientSession, url: str, body: bytes, due: float, result: LoadResult) -> None:
    try:
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
            await response.read()
            served_by = response.headers.get(SERVED_BY_HEADER)
            if response.status == 200:
                result.latencies_s.append(time.monotonic() - due)
                result.served_by[served_by or "unknown"] += 1
            else:
                result.failures[f"{response.status} from {served_by or 'the balancer'}"] += 1
    except TimeoutError:
        result.failures["timeout"] += 1
    except aiohttp.ClientConnectorError:
        result.failures["connection refused"] += 1
    except aiohttp.ClientError as error:
        result.failures[f"connection lost ({type(error).__name__})"] += 1


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0..1) of the samples do not exceed (nearest rank).

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("no samples")
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def as_json(result: LoadResult) -> dict[str, Any]:
    """The result as a JSON value. Latencies in milliseconds; `p99` is null below MIN_SAMPLES_FOR_P99 good answers."""
    milliseconds = [1000 * one for one in result.latencies_s]
    return {
        "rateAsked": result.rate,
        "scheduled": result.scheduled,
        "good": len(milliseconds),
        "failed": sum(result.failures.values()),
        "failures": dict(result.failures),
        "elapsedSeconds": round(result.elapsed_s, 3),
        "goodPerSecond": round(len(milliseconds) / result.elapsed_s, 2) if result.elapsed_s else 0.0,
        "latencyMs": {
            "p50": _percentile_or_none(milliseconds, 0.50, 1),
            "p90": _percentile_or_none(milliseconds, 0.90, 10),
            "p99": _percentile_or_none(milliseconds, 0.99, MIN_SAMPLES_FOR_P99),
            "max": _percentile_or_none(milliseconds, 1.0, 1),
        },
        "servedBy": dict(result.served_by),
        "generatorWorstLatenessMs": round(1000 * result.worst_lateness_s, 1),
    }


def _percentile_or_none(samples: Sequence[float], share: float, needed: int) -> float | None:
    return round(percentile(samples, share), 2) if len(samples) >= needed else None


def table(result: LoadResult) -> Table:
    """The result as rows of name and value."""
    figures = as_json(result)
    latency = figures["latencyMs"]
    rows = [
        ("asked", f"{result.rate:g} requests/s, {result.scheduled} requests"),
        ("good answers", f"{figures['good']} ({figures['goodPerSecond']:g}/s)"),
        ("failed", str(figures["failed"])),
        *((f"  {kind}", str(count)) for kind, count in sorted(result.failures.items())),
        *((name, f"{value:g} ms") for name, value in latency.items() if value is not None),
        *((f"answered by {vm}", str(count)) for vm, count in sorted(result.served_by.items())),
        ("generator late by at most", f"{figures['generatorWorstLatenessMs']:g} ms"),
    ]
    return Table("Load (open loop, latency from the scheduled time)", ("WHAT", "VALUE"), rows)
