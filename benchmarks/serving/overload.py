"""`python -m benchmarks.serving.overload`: what a VM does when it is asked for more than it can.

Finds the peak of answers a second over rising constant rates (open loop), then asks for three times as much. Writes
out/serving-overload.json and .html.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.serving import page
from benchmarks.serving.generator import Load, generate
from benchmarks.serving.photos import DEFAULT_ARTIFACT, artifact_of, write_bodies
from benchmarks.serving.vm import Vm, machine, running
from client.load import percentile
from serving.settings import without_fleet

HOST: Final = "127.208.10.1"
SHARES: Final = (0.7, 0.85, 1.0, 1.15, 1.3)
"""Rates of the search for the peak, as parts of what a closed loop reaches."""
OVERLOAD: Final = 3.0
CONCURRENCY: Final = 16
GOAL_GOODPUT_RATIO: Final = 0.8
_HEALTH_PERIOD_S: Final = 0.5


@contextmanager
def watched_health(vm: Vm) -> Iterator[Counter[int]]:
    """Ask for serving health twice a second, as a probe would, from a thread; counts its codes."""
    codes: Counter[int] = Counter()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_HEALTH_PERIOD_S):
            codes[vm.health()] += 1

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield codes
    finally:
        stop.set()
        thread.join()


def milliseconds(samples: Sequence[float], share: float) -> float | None:
    """A percentile, or None without samples."""
    return round(1000 * percentile(samples, share), 1) if samples else None


def figures(load: Load) -> dict[str, Any]:
    """A run's numbers for the report."""
    return {
        "asked_per_s": round(load.asked_per_s, 1),
        "good_per_s": round(load.goodput, 1),
        "answers": load.answers,
        "good_ms": {"p50": milliseconds(load.good_s, 0.5), "p99": milliseconds(load.good_s, 0.99)},
        "refused_ms": {"p50": milliseconds(load.refused_s, 0.5), "p99": milliseconds(load.refused_s, 0.99)},
        "generator_lag_p99_ms": milliseconds(load.lag_s, 0.99),
        "generator_cpu_share": round(load.cpu_s / load.elapsed_s, 3),
        "connections": load.connections,
    }


def batch_seconds(before: dict[str, float], after: dict[str, float]) -> float:
    """Mean time that the batch of a request took in the model, between two readings of Triton's counters.

    Triton counts the time of a batch once for every request in it ("Metrics", nv_inference_compute_infer_duration_us).
    """
    microseconds, requests = (
        after[name] - before[name]
        for name in ("nv_inference_compute_infer_duration_us", "nv_inference_request_success")
    )
    return microseconds / 1e6 / max(requests, 1)


def measure(vm: Vm, bodies: list[Path], seconds: float, queue_deadline_s: float) -> dict[str, Any]:
    """All runs against one VM."""
    generate(vm.host, bodies, 3, concurrency=CONCURRENCY)
    closed = generate(vm.host, bodies, seconds, concurrency=CONCURRENCY)
    say(f"closed loop, {CONCURRENCY} at a time: {closed.goodput:.1f}/s")
    with watched_health(vm) as calm:
        rising = []
        for share in SHARES:
            rising.append(generate(vm.host, bodies, seconds, rate=share * closed.goodput))
            say(f"asked {rising[-1].asked_per_s:.0f}/s: {rising[-1].goodput:.1f}/s good")
    peak = max(load.goodput for load in rising)
    before = vm.triton_counters()
    with watched_health(vm) as stormy:
        storm = generate(vm.host, bodies, 3 * seconds, rate=OVERLOAD * peak)
    batch_s = batch_seconds(before, vm.triton_counters())
    p99_s = percentile(storm.good_s, 0.99)
    say(f"asked {storm.asked_per_s:.0f}/s: {storm.goodput:.1f}/s good, p99 {1000 * p99_s:.0f} ms")
    return {
        "machine": machine(),
        "closed_loop_per_s": round(closed.goodput, 1),
        "open_loop_peak_per_s": round(peak, 1),
        "rising": [figures(load) for load in rising],
        "overload": figures(storm),
        "overload_goodput_ratio": round(storm.goodput / peak, 3),
        "accepted_p99_ms": round(1000 * p99_s, 1),
        "queue_deadline_ms": round(1000 * queue_deadline_s, 1),
        "batch_ms": round(1000 * batch_s, 1),
        "accepted_p99_goal_ms": round(1000 * (queue_deadline_s + 2 * batch_s), 1),
        "health_answers": {"rising": dict(calm), "overload": dict(stormy)},
        "restarts": vm.restarts(),
    }


def missed(result: dict[str, Any]) -> list[str]:
    """Which goals a result misses, in words."""
    goals = {
        f"overload_goodput_ratio {result['overload_goodput_ratio']} is below {GOAL_GOODPUT_RATIO}": (
            result["overload_goodput_ratio"] < GOAL_GOODPUT_RATIO
        ),
        f"accepted p99 {result['accepted_p99_ms']} ms is above {result['accepted_p99_goal_ms']} ms": (
            result["accepted_p99_ms"] > result["accepted_p99_goal_ms"]
        ),
        f"serving health was not always 200: {result['health_answers']}": any(
            code != 200 for answers in result["health_answers"].values() for code in answers
        ),
        f"something else than 200 and 429 was answered: {result['overload']['answers']}": bool(
            result["overload"]["answers"].keys() - {"200", "429"}
        ),
        f"processes were started again: {result['restarts']}": bool(result["restarts"]),
    }
    return [text for text, is_missed in goals.items() if is_missed]


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Command line: 0 if every goal is reached, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.overload", description=__doc__)
    parser.add_argument("--artifact", type=Path, help="folder of an artifact (default: the built-in model's, built)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each rate; the overload takes three times that")
    default_s = without_fleet(Path(), HOST, 0, Path()).queue_deadline_s
    parser.add_argument("--queue-deadline", type=float, default=default_s, help="seconds (default: %(default)s)")
    arguments = parser.parse_args()
    artifact = arguments.artifact or artifact_of("builtin:efficientnet-lite0", DEFAULT_ARTIFACT)
    with tempfile.TemporaryDirectory() as folder:
        bodies = write_bodies(Path(folder))
        limits = {"queue_deadline_s": arguments.queue_deadline}
        with running(artifact.resolve(), HOST, Path(folder, "vm.log"), limits) as vm:
            result = measure(vm, bodies, arguments.seconds, arguments.queue_deadline)
    result["missed"] = missed(result)
    runs = [*result["rising"], result["overload"]]
    asked = [run["asked_per_s"] for run in runs]
    plot = page.Plot(
        "Constant-rate load, open loop",
        "requests asked for a second",
        {
            "answers/s": {"good (200)": (asked, [run["good_per_s"] for run in runs])},
            "ms, from the scheduled time": {
                name: (asked, [run["good_ms"][name] for run in runs]) for name in ("p50", "p99")
            },
        },
    )
    report = page.write("serving-overload", "A serving VM above its capacity", result, [plot])
    path = report.with_suffix(".json")
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in ("overload_goodput_ratio", "accepted_p99_ms", "missed")}))
    say(f"written to {path} and {report}")
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
