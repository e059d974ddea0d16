"""On the GPU machine: build, inspect and time engines, compare answers. Writes one JSON file, after every engine.

A second start goes on where the first one stopped. README.md has the command.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import json
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.gpu.inspection import summary
from benchmarks.gpu.seeds import expand
from benchmarks.gpu.tensorrt86 import Execution, Precision, TensorRT
from benchmarks.gpu.windows import windows

_WARM_UP_S: Final = 0.5
_ROUND_S: Final = 0.6
ROUNDS: Final = 5
_MIN_RUNS: Final = 40
_BATCH_OF_ANSWERS: Final = 20


@dataclass(frozen=True, slots=True)
class Job:
    """One engine."""

    network: str
    precision: Precision
    batch: int

    @property
    def name(self) -> str:
        """Names it in the results."""
        return f"{self.network}.{self.precision}.b{self.batch}"

    @property
    def graph(self) -> str:
        """Which graph of the network it is built from."""
        return "int8" if self.precision == "int8" else "fp32"


RESNET, RESNET_V2, EFFICIENTNET = "resnet50", "resnet50v2", "efficientnet-lite0"
JOBS: Final = (
    Job(RESNET, "int8", 128),
    Job(RESNET, "fp16", 128),
    Job(RESNET, "fp32", 128),
    Job(EFFICIENTNET, "int8", _BATCH_OF_ANSWERS),
    Job(RESNET, "int8", 1),
    Job(RESNET, "int8", 32),
    Job(RESNET, "fp32", 1),
    Job(RESNET, "fp32", 32),
    Job(RESNET_V2, "int8", 128),
    Job(RESNET, "fp16", 32),
    Job(RESNET, "fp16", 1),
    Job(RESNET, "int8", 8),
    Job(RESNET, "fp32", 8),
    Job(RESNET, "fp16", 8),
    Job(RESNET_V2, "fp16", 128),
    Job(EFFICIENTNET, "fp32", _BATCH_OF_ANSWERS),
    Job(EFFICIENTNET, "fp16", _BATCH_OF_ANSWERS),
    Job(RESNET, "tf32", 128),
)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser()
    for name in ("runtime", "networks", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=540.0, help="no engine is begun that would end later")
    parser.add_argument("--only", nargs="*", help="names of the engines to build; default: all")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "tensorrt.json"
    record: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {"engines": {}}
    tensorrt = TensorRT(options.runtime, options.out / "timing.cache")
    record["machine"] = machine(tensorrt)
    images = windows(np.load(options.networks / "photos.npz")["photos"])
    longest = 30.0
    for job in JOBS:
        if job.name in record["engines"] or (options.only and job.name not in options.only):
            continue
        if deadline - time.monotonic() < 1.3 * longest:
            print(f"{job.name}: no time left", flush=True)
            continue
        began = time.monotonic()
        try:
            found = measure(tensorrt, job, options, images)
        except Exception as error:  # noqa: BLE001 - one engine that fails must not cost the others' results
            found = {"error": f"{type(error).__name__}: {error}"}
        longest = max(longest, time.monotonic() - began)
        record["engines"][job.name] = {**asdict(job), **found, "gpu": record["machine"]["gpu"]}
        results.write_text(json.dumps(record, indent=1) + "\n")
        print(job.name, json.dumps(found), f"{time.monotonic() - began:.0f} s", flush=True)


def machine(tensorrt: TensorRT) -> dict[str, str]:
    """What it ran on."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv,noheader"]
    gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    return {"gpu": gpu, "tensorrt": str(tensorrt.trt.__version__), "python": platform.python_version()}


def measure(tensorrt: TensorRT, job: Job, options: argparse.Namespace, images: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Everything about one engine."""
    graph = expand(options.networks / f"{job.network}.{job.graph}.onnx").SerializeToString()
    built = tensorrt.build(graph, job.precision, job.batch)
    engine = tensorrt.engine(built.plan)
    layers = tensorrt.inspect(engine)
    with gzip.open(options.out / f"layers.{job.name}.json.gz", "wt") as file:
        json.dump(layers, file)
    executions = [Execution(tensorrt, engine, job.batch) for _ in range(2)]
    for execution in executions:
        for array in execution.inputs.values():
            array[:] = np.resize(images, array.shape)
        execution.send()
    first = executions[0]
    answers = accuracy(first, job, options.networks, images) if job.network == EFFICIENTNET else {}
    found = {
        "build_s": round(built.seconds, 1),
        "build_peak_mib": built.peak_mib,
        "plan_mib": round(len(built.plan) / 2**20, 1),
        "activations_mib": int(engine.device_memory_size) >> 20,
        "inspection": summary(layers),
        "execute": timed(tensorrt, first, first.run, job.batch),
        "execute_as_cuda_graph": timed(tensorrt, first, first.captured(first.run), job.batch),
        "with_copies": timed(tensorrt, first, lambda: _request(first), job.batch),
        "two_streams_with_copies_images_per_s": together(executions, job.batch),
        **answers,
    }
    for execution in executions:
        execution.close()
    return found


def _request(execution: Execution) -> None:
    execution.send()
    execution.run()
    execution.receive()


def timed(tensorrt: TensorRT, execution: Execution, work: Callable[[], None], batch: int) -> dict[str, Any]:
    """Images per second of ROUNDS rounds, and percentiles of one batch's time on the GPU in ms (CUDA events)."""
    cuda = tensorrt.cuda
    until = time.perf_counter() + _WARM_UP_S
    while time.perf_counter() < until:
        work()
        execution.synchronise()
    began = time.perf_counter()
    for _ in range(10):
        work()
    execution.synchronise()
    runs = int(max(_MIN_RUNS, _ROUND_S / ((time.perf_counter() - began) / 10)))
    events = [cuda.handle("EventCreate") for _ in range(runs + 1)]
    rates, times = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        cuda.EventRecord(events[0], execution.stream)
        for event in events[1:]:
            work()
            cuda.EventRecord(event, execution.stream)
        execution.synchronise()
        rates.append(batch * runs / (time.perf_counter() - began))
        elapsed = ctypes.c_float()
        for earlier, later in zip(events, events[1:]):  # noqa: B905, RUF007 - one is longer, and Python 3.11 here
            cuda.EventElapsedTime(ctypes.byref(elapsed), earlier, later)
            times.append(elapsed.value)
    for event in events:
        cuda.EventDestroy(event)
    return {
        "images_per_s": round(float(np.median(rates)), 1),
        "rounds": [round(rate, 1) for rate in rates],
        "runs": len(times),
        "p50_ms": round(float(np.percentile(times, 50)), 4),
        "p99_ms": round(float(np.percentile(times, 99)), 4),
    }


def together(executions: list[Execution], batch: int) -> float:
    """Images per second with the executions side by side, each with its copies."""

    def rounds(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            for execution in executions:
                _request(execution)
        for execution in executions:
            execution.synchronise()
        return time.perf_counter() - began

    rounds(10)
    count = int(max(_MIN_RUNS, _ROUND_S / (rounds(10) / 10)))
    return round(batch * count * len(executions) / float(np.median([rounds(count) for _ in range(ROUNDS)])), 1)


def accuracy(execution: Execution, job: Job, networks: Path, images: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Top-1 agreement and SQNR of the logits against ONNX Runtime's answers on another machine's CPU."""
    if job.batch != _BATCH_OF_ANSWERS:
        return {}
    reference = np.load(networks / "reference.npz")
    (taken,) = execution.inputs.values()
    logits = execution.outputs[str(reference["logits"])]
    rows = []
    for start in range(0, len(images), job.batch):
        taken[:] = images[start : start + job.batch]
        _request(execution)
        execution.synchronise()
        rows.append(logits.copy())
    answers = np.concatenate(rows).astype(np.float64)
    labels = reference["labels"]
    return {
        "answers": {
            "images": len(images),
            "top1": float((answers.argmax(1) == labels).mean()),
            **{f"against_ort_{name}": _likeness(reference[name], answers) for name in ("fp32", "int8")},
            "ort_int8_against_ort_fp32": _likeness(reference["fp32"], reference["int8"]),
        }
    }


def _likeness(reference: npt.NDArray[Any], answers: npt.NDArray[Any]) -> dict[str, float]:
    signal = reference - reference.mean(1, keepdims=True)
    noise = signal - (answers - answers.mean(1, keepdims=True))
    return {
        "agreement": round(float((reference.argmax(1) == answers.argmax(1)).mean()), 4),
        "sqnr_db": round(10 * float(np.log10((signal**2).sum() / (noise**2).sum())), 2),
    }


if __name__ == "__main__":
    main()
