"""What built an artifact: versions of the libraries, and the class of machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Final

_LIBRARIES: Final = (
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
)
_INTEGER_EXTENSIONS: Final = ("amx_int8", "avx512_vnni", "avx_vnni", "avx2")
"""CPU flags that decide how integer kernels run, best first."""


def tool_versions() -> dict[str, str]:
    """Versions by name, `python` and `machine` among them."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {**versions, "python": platform.python_version(), "machine": machine_class()}


def machine_class() -> str:
    """Architecture, best integer extension and number of usable cores: `x86_64 avx512_vnni, 2 cores`."""
    best = next((flag for flag in _INTEGER_EXTENSIONS if flag in cpu_flags()), "no integer extension")
    return f"{platform.machine()} {best}, {len(os.sched_getaffinity(0))} cores"


def cpu_flags() -> frozenset[str]:
    """Feature flags of the first CPU as the kernel names them; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def peak_memory_gib() -> float:
    """Most memory that this process has held at once (VmHWM). What getrusage tells begins with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) / 2**20
