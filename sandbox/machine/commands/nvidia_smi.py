"""`nvidia-smi` over simulated GPUs: what the machine host wrote for this VM."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch

_DRIVER: Final = "580.00.00"
_MODELS: Final = {"nvidia-tesla-t4": ("Tesla T4", 15360, "7.5")}
"""Accelerator type -> name, memory in MiB, compute capability (NVIDIA's data sheet of the T4)."""
_NO_DEVICES: Final = 6

Gpu = dict[str, Any]


def main(arguments: list[str]) -> int:
    """`nvidia-smi`, `nvidia-smi -L`, `nvidia-smi --query-gpu=FIELDS --format=csv[,noheader][,nounits]`."""
    query, layout, listing, index = "", "", False, None
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        option, sign, value = word.partition("=")
        if word in {"-L", "--list-gpus"}:
            listing = True
        elif option in {"--query-gpu", "--format", "-i", "--id"}:
            if not sign:
                if not rest:
                    raise Refusal(f"Option {option} is missing its value.", 2)
                value = rest.pop(0)
            if option == "--query-gpu":
                query = value
            elif option == "--format":
                layout = value
            else:
                index = value
        else:
            raise not_modelled("nvidia-smi", f"the option {option}", 2)
    gpus = _gpus(index)
    if listing:
        for gpu in gpus:
            print(f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})")
        return 0
    if query:
        return _query(gpus, query.split(","), layout.split(",") if layout else [])
    _table(gpus)
    return 0


def _gpus(index: str | None) -> list[Gpu]:
    document = json.loads(Scratch.here().gpus.read_text())
    name, memory, capability = _MODELS.get(document["type"], (document["type"], 0, "0.0"))
    gpus = [
        {
            **gpu,
            "name": name,
            "memory": memory,
            "capability": capability,
            "count": len(document["gpus"]),
            "uuid": _uuid(document["seed"], gpu["index"]),
        }
        for gpu in document["gpus"]
    ]
    if index is not None:
        gpus = [gpu for gpu in gpus if str(gpu["index"]) == index]
    if not gpus:
        raise Refusal("No devices were found", _NO_DEVICES)
    return gpus


def _uuid(seed: str, index: int) -> str:
    digits = hashlib.sha256(f"{seed}/{index}".encode()).hexdigest()
    return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"


_FIELDS: Final[dict[str, tuple[str, Callable[[Gpu], object]]]] = {
    "index": ("", lambda gpu: gpu["index"]),
    "count": ("", lambda gpu: gpu["count"]),
    "name": ("", lambda gpu: gpu["name"]),
    "gpu_name": ("", lambda gpu: gpu["name"]),
    "uuid": ("", lambda gpu: gpu["uuid"]),
    "gpu_uuid": ("", lambda gpu: gpu["uuid"]),
    "driver_version": ("", lambda gpu: _DRIVER),  # noqa: ARG005
    "compute_cap": ("", lambda gpu: gpu["capability"]),
    "pci.bus_id": ("", lambda gpu: f"00000000:00:{4 + gpu['index']:02X}.0"),
    "utilization.gpu": ("%", lambda gpu: gpu["utilization"]),
    "memory.total": ("MiB", lambda gpu: gpu["memory"]),
}
"""Field -> unit, value. Memory in use, temperature, power and clocks are not simulated."""


def _query(gpus: list[Gpu], fields: list[str], layout: list[str]) -> int:
    fields = [field.strip() for field in fields]
    for field in fields:
        if field not in _FIELDS:
            raise Refusal(
                f'Field "{field}" is not a valid field to query, or is not simulated; simulated are: '
                f"{', '.join(_FIELDS)}",
                2,
            )
    if "csv" not in layout or set(layout) - {"csv", "noheader", "nounits"}:
        raise Refusal("Format must be csv, with noheader and nounits as options.", 2)
    units = "nounits" not in layout
    if "noheader" not in layout:
        print(", ".join(f"{field} [{_FIELDS[field][0]}]" if units and _FIELDS[field][0] else field for field in fields))
    for gpu in gpus:
        cells = []
        for field in fields:
            unit, value = _FIELDS[field]
            cells.append(f"{value(gpu)} {unit}" if units and unit else str(value(gpu)))
        print(", ".join(cells))
    return 0


def _table(gpus: list[Gpu]) -> None:
    print(f"| SIMULATED NVIDIA-SMI     Driver Version: {_DRIVER}")
    print("| GPU  Name                    Memory-Total   GPU-Util (simulated)")
    for gpu in gpus:
        print(f"| {gpu['index']:>3}  {gpu['name']:<22} {gpu['memory']:>8}MiB   {gpu['utilization']:>7}%")
