"""`python -m benchmarks.serving.fuzz`: generated requests, most of them bad, against a VM's real processes.

Each must get the answer that its mutator expects; no process may end, and memory must stay. Writes
out/serving-fuzz.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

import contract
from benchmarks.serving.mutators import BODY_TIMEOUT_S, MAX_BODY_BYTES, Case, Expected, Mutators
from benchmarks.serving.page import OUT
from benchmarks.serving.photos import artifact_of
from benchmarks.serving.reference import Reference, wrong
from benchmarks.serving.vm import ROOT, Vm, machine, running
from benchmarks.serving.wire import Reply, Wire

HOST: Final = "127.208.11.1"
SMOKE_ARTIFACT: Final = ROOT / ".cache" / "smoke-artifact"
LIMITS: Final = {
    "max_body_bytes": MAX_BODY_BYTES,
    "body_timeout_s": BODY_TIMEOUT_S,
    # Whether a request is valid is the question here, not whether there is room for it.
    "queue_deadline_s": 20.0,
}
MAX_GROWTH_BYTES: Final = 10 * 2**20
"""Resident memory at the end may exceed its value after a tenth of the requests by so much."""
_SENDERS: Final = 6
_READINGS: Final = 10
_BETWEEN_READINGS_S: Final = 0.2
_SHOWN: Final = 20


@dataclass
class Outcome:
    """What came of a run."""

    requests: int = 0
    by_mutator: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Requests that were not answered as expected, and how."""
    statuses: Counter[int] = field(default_factory=Counter)
    resident_early: int = 0
    resident_late: int = 0
    health: Counter[int] = field(default_factory=Counter)
    restarts: list[str] = field(default_factory=list)
    failures: int = 0
    """Requests that the gateway's log calls failed: faults of the program."""
    seconds: float = 0.0

    @property
    def problems(self) -> list[str]:
        """Everything that must not be, in words."""
        grown = self.resident_late - self.resident_early
        bad = {status: count for status, count in self.statuses.items() if status >= 500}
        checks = {
            f"{len(self.faults)} requests were answered wrongly: {'; '.join(self.faults[:_SHOWN])}": bool(self.faults),
            f"5xx: {bad}": bool(bad),
            f"processes were started again: {self.restarts}": bool(self.restarts),
            f"{self.failures} requests failed in the gateway": bool(self.failures),
            f"serving health was not always 200: {dict(self.health)}": set(self.health) != {200},
            f"resident memory grew by {grown / 2**20:.1f} MiB": grown > MAX_GROWTH_BYTES,
        }
        return [text for text, is_so in checks.items() if is_so]


def fault(expected: Expected, reply: Reply | None) -> str:
    """How an answer differs from the expected one, or nothing."""
    if reply is None:
        return f"no answer instead of {expected.status}"
    if reply.status != expected.status:
        return f"{reply.status} instead of {expected.status}: {reply.body[:200]!r}"
    if expected.status == 200:
        return wrong(json.loads(reply.body), expected.scores)
    if expected.text.encode() not in reply.body:
        return f"the error does not say {expected.text!r}: {reply.body[:200]!r}"
    return ""


async def run(vm: Vm, mutators: Mutators, seed: int, count: int) -> Outcome:
    """Send `count` requests over a few connections that are kept as long as the server keeps them."""
    outcome = Outcome()
    began = time.monotonic()
    numbered = enumerate(mutators.cases(seed, count))
    await _send_all(vm, islice(numbered, count // 10), outcome, seed, count)
    outcome.resident_early = await _resident_at_rest(vm)
    await _send_all(vm, numbered, outcome, seed, count)
    outcome.resident_late = await _resident_at_rest(vm)
    outcome.restarts = vm.restarts()
    outcome.failures = sum(event["message"] == "a request failed" for event in vm.events())
    outcome.seconds = time.monotonic() - began
    return outcome


async def _send_all(vm: Vm, numbered: Iterator[tuple[int, Case]], outcome: Outcome, seed: int, count: int) -> None:
    senders = [asyncio.create_task(_send(vm, numbered, outcome, seed, count)) for _ in range(_SENDERS)]
    try:
        await asyncio.gather(*senders)
    finally:
        for sender in senders:
            sender.cancel()


async def _resident_at_rest(vm: Vm) -> int:
    """Memory in bytes once nobody asks: what a request holds while it is answered is not what stays of it."""
    least = vm.resident_bytes()
    for _ in range(_READINGS):
        await asyncio.sleep(_BETWEEN_READINGS_S)
        least = min(least, vm.resident_bytes())
    return least


async def _send(vm: Vm, numbered: Iterator[tuple[int, Case]], outcome: Outcome, seed: int, count: int) -> None:
    wire: Wire | None = None
    for number, case in numbered:
        if wire is None:
            wire = await Wire.open(vm.host, contract.API_PORT)
        replies = await wire.converse(case.parts, len(case.expected), case.pause_s)
        for expected, reply in zip(case.expected, replies, strict=True):
            if reply is not None:
                outcome.statuses[reply.status] += 1
            if difference := fault(expected, reply):
                outcome.faults.append(f"{case.mutator} ({seed}/{number}): {difference}")
        if case.last or any(reply is None or reply.closes for reply in replies):
            await wire.close()
            wire = None
        outcome.by_mutator[case.mutator] += 1
        outcome.requests += 1
        if outcome.requests % max(1, count // 20) == 0:
            outcome.health[await asyncio.to_thread(vm.health)] += 1
            print(f"{outcome.requests} of {count}, {len(outcome.faults)} wrong", file=sys.stderr, flush=True)
    if wire is not None:
        await wire.close()


def main() -> int:
    """Command line: 0 if all is as it must be, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    artifact = artifact_of("builtin:smoke", SMOKE_ARTIFACT)
    mutators = Mutators(Reference(artifact))
    with tempfile.TemporaryDirectory() as folder, running(artifact, HOST, Path(folder, "vm.log"), LIMITS) as vm:
        outcome = asyncio.run(run(vm, mutators, arguments.seed, arguments.requests))
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "seed": arguments.seed,
        "requests": outcome.requests,
        "seconds": round(outcome.seconds, 1),
        "by_mutator": dict(sorted(outcome.by_mutator.items())),
        "statuses": {str(status): number for status, number in sorted(outcome.statuses.items())},
        "resident_mib": {
            "after a tenth": round(outcome.resident_early / 2**20, 1),
            "at the end": round(outcome.resident_late / 2**20, 1),
        },
        "problems": outcome.problems,
    }
    OUT.mkdir(exist_ok=True)
    (OUT / "serving-fuzz.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
