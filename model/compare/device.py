"""Whether a comparison runs on a GPU: its plans must be for the one that is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from artifact.folder import ArtifactFolder
from artifact.manifest import Plan
from model.errors import BuildError
from model.plan.target import Gpu, visible_gpus

DeviceChoice = Literal["auto", "cpu", "gpu"]
"""`auto`: the GPU where there is one that the artifact has plans for, else the CPU."""


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """A GPU and the plans for it."""

    gpu: Gpu
    plan: Plan


def gpu_device(artifact: ArtifactFolder, choice: DeviceChoice) -> GpuDevice | None:
    """The GPU to compare on; None for the CPU.

    Raises:
        BuildError: `gpu` is asked for and there is none, or no plan for it.
    """
    plans = artifact.manifest.plans
    if choice == "cpu" or (choice == "auto" and not plans):
        return None
    try:
        gpus = visible_gpus()
    except BuildError:
        if choice == "gpu":
            raise
        return None
    for gpu in gpus:
        for plan in plans:
            if plan.compute_capability == gpu.compute_capability:
                return GpuDevice(gpu, plan)
    if choice == "gpu":
        here = ", ".join(f"{gpu.name} ({gpu.compute_capability})" for gpu in gpus) or "none"
        there = ", ".join(f"{plan.gpu} ({plan.compute_capability})" for plan in plans) or "none"
        raise BuildError(f"the artifact has no plan for a GPU of this machine: it has {there}, and here is {here}")
    return None
