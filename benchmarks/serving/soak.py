"""`python -m benchmarks.serving.soak`: a VM at 80 % of its capacity for long; nothing may grow, nothing may fail.

Writes out/serving-soak.json and .html.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.serving import page
from benchmarks.serving.generator import Load, generate
from benchmarks.serving.overload import CONCURRENCY, OVERLOAD, figures, say
from benchmarks.serving.photos import DEFAULT_ARTIFACT, artifact_of, write_bodies
from benchmarks.serving.vm import Vm, machine, running

HOST: Final = "127.208.15.1"
SHARE: Final = 0.8
MAX_GROWTH_BYTES: Final = 10 * 2**20
MAX_GROWTH_DESCRIPTORS: Final = 64
"""Connections come and go with the load; a leak of one a request would show tens of thousands."""
_CAPACITY_S: Final = 15.0
_PERIOD_S: Final = 5.0
_WARM_UP: Final = 0.1
"""Part of the time after which nothing may grow any more."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The VM at one point in time; `at_s` counts from the start."""

    at_s: float
    resident_bytes: int
    descriptors: int
    health: int


def sample_for(vm: Vm, stop: threading.Event, samples: list[Sample]) -> None:
    """Take samples until told to stop."""
    began = time.monotonic()
    while not stop.wait(_PERIOD_S):
        samples.append(Sample(time.monotonic() - began, vm.resident_bytes(), vm.descriptors(), vm.health()))


def soak(vm: Vm, bodies: list[Path], minutes: float) -> tuple[Load, list[Sample]]:
    """Find the capacity, then hold 80 % of it."""
    generate(vm.host, bodies, 3, concurrency=CONCURRENCY)
    capacity = generate(vm.host, bodies, _CAPACITY_S, concurrency=CONCURRENCY).goodput
    say(f"capacity {capacity:.1f}/s; {SHARE:.0%} of it for {minutes:g} minutes")
    # Once far above it: batches, and what the model holds for them, are then as large as they ever get.
    generate(vm.host, bodies, _CAPACITY_S, rate=OVERLOAD * capacity)
    samples: list[Sample] = []
    stop = threading.Event()
    sampler = threading.Thread(target=sample_for, args=(vm, stop, samples), daemon=True)
    sampler.start()
    try:
        return generate(vm.host, bodies, 60 * minutes, rate=SHARE * capacity), samples
    finally:
        stop.set()
        sampler.join()


def growth(samples: Sequence[Sample], name: str) -> float:
    """How much a quantity grew from the end of the warm-up to the end: medians of a tenth of the time each."""
    values = [float(getattr(sample, name)) for sample in samples]
    tenth = max(1, int(len(values) * _WARM_UP))
    early, late = sorted(values[tenth : 2 * tenth]), sorted(values[-tenth:])
    return late[len(late) // 2] - early[len(early) // 2]


def problems(load: Load, samples: Sequence[Sample], restarts: Sequence[str]) -> list[str]:
    """Everything that must not be, in words."""
    grown, more = growth(samples, "resident_bytes"), growth(samples, "descriptors")
    checks = {
        f"not everything was answered with 200: {load.answers}": load.answers.keys() != {"200"},
        f"resident memory grew by {grown / 2**20:.1f} MiB": grown > MAX_GROWTH_BYTES,
        f"{more:.0f} more descriptors are open": more > MAX_GROWTH_DESCRIPTORS,
        "serving health was not always 200": any(sample.health != 200 for sample in samples),
        f"processes were started again: {list(restarts)}": bool(restarts),
    }
    return [text for text, is_so in checks.items() if is_so]


def main() -> int:
    """Command line: 0 if nothing grew and nothing failed, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.soak", description=__doc__)
    parser.add_argument("--artifact", type=Path, help="folder of an artifact (default: the built-in model's, built)")
    parser.add_argument("--minutes", type=float, default=20.0)
    arguments = parser.parse_args()
    artifact = arguments.artifact or artifact_of("builtin:efficientnet-lite0", DEFAULT_ARTIFACT)
    with tempfile.TemporaryDirectory() as folder:
        bodies = write_bodies(Path(folder))
        with running(artifact.resolve(), HOST, Path(folder, "vm.log")) as vm:
            load, samples = soak(vm, bodies, arguments.minutes)
            restarts = vm.restarts()
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "minutes": arguments.minutes,
        "load": figures(load),
        "resident_growth_mib": round(growth(samples, "resident_bytes") / 2**20, 1),
        "descriptor_growth": growth(samples, "descriptors"),
        "problems": problems(load, samples, restarts),
    }
    at = [sample.at_s / 60 for sample in samples]
    plot = page.Plot(
        "A VM at 80 % of its capacity",
        "minutes",
        {
            "MiB resident": {"all processes": (at, [sample.resident_bytes / 2**20 for sample in samples])},
            "open descriptors": {"all processes": (at, [float(sample.descriptors) for sample in samples])},
        },
    )
    report = page.write("serving-soak", "Soak: a serving VM at 80 % of its capacity", result, [plot])
    result["samples"] = [asdict(sample) for sample in samples]
    path = report.with_suffix(".json")
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in ("resident_growth_mib", "descriptor_growth", "problems")}))
    say(f"written to {path} and {report}")
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
