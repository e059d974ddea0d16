"""What plans are built for: this machine's GPU and TensorRT, which must be those that the request names."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from model.errors import BuildError
from model.plan.tensorrt_api import TensorRt, load_tensorrt

COMPUTE_CAPABILITIES: Final[Mapping[str, str]] = {
    "nvidia-tesla-t4": "7.5",
    "nvidia-tesla-a100": "8.0",
    "nvidia-l4": "8.9",
    "nvidia-h100-80gb": "9.0",
}
"""By Compute Engine's accelerator type (NVIDIA, "CUDA GPU Compute Capability", 2026-11)."""
RELEASE_VARIABLE: Final = "NVIDIA_TENSORRT_VERSION"
"""Where NVIDIA's TensorRT container says its monthly release, as its images were seen to; not documented."""
_RELEASE: Final = re.compile(r":(\d{2}\.\d{2})(?:-|@|$)")
_VERSION: Final = re.compile(r"\d+(\.\d+)*")
_QUERY: Final = ("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """One GPU type with one TensorRT."""

    gpu: str
    """Accelerator type, as in `nvidia-tesla-t4`."""
    compute_capability: str
    """As in `7.5`."""
    tensorrt: str
    """Version, as in `10.13.2.6`."""
    remark: str = ""
    """What could not be verified, or nothing."""

    @property
    def folder(self) -> str:
        """Folder of its plans inside the archive."""
        architecture = self.compute_capability.replace(".", "")
        return f"plans/{self.gpu}-sm{architecture}-trt{self.tensorrt}"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as nvidia-smi names it."""

    name: str
    compute_capability: str


def plan_machine(wanted_tensorrt: str, wanted_gpu: str) -> tuple[TensorRt, PlanTarget]:
    """This machine's TensorRT and what it builds for: asked before a build begins, so that it fails in a second.

    Raises:
        BuildError: TensorRT or a GPU is missing, or is not what the request wants.
    """
    tensorrt = load_tensorrt()
    return tensorrt, plan_target(tensorrt, wanted_tensorrt=wanted_tensorrt, wanted_gpu=wanted_gpu, gpus=visible_gpus())


def plan_target(
    tensorrt: TensorRt,
    *,
    wanted_tensorrt: str,
    wanted_gpu: str,
    gpus: Sequence[Gpu],
    environment: Mapping[str, str] = os.environ,
) -> PlanTarget:
    """What this machine with its `gpus` builds for, if it is what is wanted; `wanted_tensorrt`: a version or container.

    Raises:
        BuildError: another GPU or TensorRT, or none.
    """
    if wanted_gpu not in COMPUTE_CAPABILITIES:
        raise BuildError(
            f"plans for GPU type {wanted_gpu!r} cannot be built; allowed: {', '.join(COMPUTE_CAPABILITIES)} "
            "(--gpu-type, setting fleet.gpuType)"
        )
    if not gpus:
        raise BuildError("nvidia-smi sees no GPU: plans are built on the GPU type that serves them")
    wanted = COMPUTE_CAPABILITIES[wanted_gpu]
    for gpu in gpus:
        if gpu.compute_capability != wanted:
            raise BuildError(
                f"this machine's GPU is a {gpu.name} of compute capability {gpu.compute_capability}, and plans are "
                f"wanted for {wanted_gpu} ({wanted}): build on that GPU (setting model.builder.gpuType)"
            )
    remark = _verify_version(tensorrt.__version__, wanted_tensorrt, environment)
    return PlanTarget(wanted_gpu, wanted, tensorrt.__version__, remark)


def _verify_version(version: str, wanted: str, environment: Mapping[str, str]) -> str:
    if _VERSION.fullmatch(wanted):
        parts = wanted.split(".")
        if version.split(".")[: len(parts)] != parts:
            raise BuildError(f"TensorRT here is {version}, and {wanted} is wanted: serving reads no other's plans")
        return ""
    release = _RELEASE.search(wanted)
    here = environment.get(RELEASE_VARIABLE, "")
    if release is None or not here:
        why = f"{RELEASE_VARIABLE} is not set here" if release else "it is named without its release"
        return f"that TensorRT {version} is also that of {wanted} is not verified: {why}"
    if not here.startswith(release[1]):
        raise BuildError(
            f"this container is release {here} with TensorRT {version}, and {wanted} serves: name containers of one "
            "monthly release (settings model.builder.container and fleet.container)"
        )
    return ""


def visible_gpus() -> tuple[Gpu, ...]:
    """The machine's GPUs.

    Raises:
        BuildError: nvidia-smi is not there, fails, or says nothing that can be understood.
    """
    try:
        answer = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(
            f"nvidia-smi: {error}: plans are built on a machine with a GPU, in a container that sees it"
        ) from error
    if answer.returncode:
        text = " ".join((answer.stderr or answer.stdout).split())
        raise BuildError(f"nvidia-smi failed with {answer.returncode}: {text}")
    rows = [line.rpartition(",") for line in answer.stdout.splitlines() if line.strip()]
    return tuple(Gpu(name.strip(), capability.strip()) for name, _, capability in rows)
