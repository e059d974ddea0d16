"""Where a VM's processor time goes: by its parts, an image."""

from __future__ import annotations

from typing import Final

import psutil

from benchmarks.serving.comparison.cells import Cell
from benchmarks.serving.comparison.contenders import Contender
from benchmarks.serving.generator import generate

_PARTS: Final = (
    ("serving.gateway", "gateway workers: HTTP, JSON, base64, decoding"),
    ("triton_python_backend_stub", "Triton's stubs: ONNX Runtime"),
    ("tritonserver", "Triton: gRPC, queue, batching"),
)
_SUPERVISOR: Final = "supervisor: canaries, health, metrics"


def part_of(command: str) -> str:
    """Which part of the VM a process with this command line is."""
    return next((said for word, said in _PARTS if word in command), _SUPERVISOR)


def profile(our: Contender, cell: Cell, seconds: float) -> dict[str, float]:
    """Milliseconds of processor time an image, by part, under one load."""
    processes = our.processes()
    before = [_cpu_s(process) for process in processes]
    load = generate(our.host, cell.bodies, seconds, concurrency=cell.concurrency, port=our.port)
    images = len(load.good_s) * cell.images
    parts: dict[str, float] = {}
    for process, was in zip(processes, before, strict=True):
        name = part_of(" ".join(process.cmdline()))
        parts[name] = parts.get(name, 0.0) + 1000 * (_cpu_s(process) - was) / images
    return parts


def _cpu_s(process: psutil.Process) -> float:
    user, system, *_ = process.cpu_times()
    return float(user + system)
