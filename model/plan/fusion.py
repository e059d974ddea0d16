"""Whether TensorRT's parser takes a graph and its optimiser fuses it, found out on a CPU.

TensorRT-RTX is TensorRT's sibling for GPUs from Turing on; it compiles ahead of time, for a GPU that is not there.
Parser and graph optimiser are shared, kernels are not: the check says that a graph is accepted and where it is
requantised, nothing about speed, and nothing about a T4's INT8 kernels (TensorRT-RTX has none for compute capability
7.5). Its packages are for development and are not installed where models are built.
"""

from __future__ import annotations

import collections
import importlib
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx

from artifact.profiles import BatchProfile
from model.errors import BuildError

ARCHITECTURES: Final = ("SM86", "SM89")
"""GA10x and Ada: the closest to a T4 for which TensorRT-RTX has INT8 kernels."""
_LIBRARIES: Final = ("tensorrt_rtx_libs", "tensorrt_rtx_bindings")
_PROFILE: Final = BatchProfile(1, 8, 32)
_KERNEL: Final = re.compile(rb"__global__ void __myl_([A-Za-z]+)_0x[0-9a-f]+(?:_vec)?\(")
"""A generated pointwise kernel: plans hold its CUDA source, and its name lists its operations in order."""
_QUANTISE: Final = "RounCast"
_BEFORE_ACTIVATION: Final = re.compile(r"RounCastCastMul(?:Relu|MaxMin)")
"""Quantised and restored, then the activation (`MaxMin` is a Clip): the pair belongs behind it."""
_TWICE: Final = re.compile(r"RounCastCastMul(?:Mul)?MinMaxRoun")
"""Quantised, restored and quantised again with nothing computed between."""
_FUSED: Final = re.compile(r"(?:Relu|MaxMin)(?:Mul)?MinMaxRounCast")
"""Bias, activation and quantisation in one kernel, behind a convolution's integers."""


class FusionUnavailableError(BuildError):
    """TensorRT-RTX cannot run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """What one architecture's plan shows."""

    architecture: str
    plan_bytes: int
    kernels: Mapping[str, int]
    """Generated kernels by their operations, as in `MulAddReluMulMinMaxRounCast`."""
    findings: tuple[str, ...]
    """Kernels that should not be there; empty for a well-placed graph."""

    @property
    def fused(self) -> int:
        """Kernels that end a convolution as they should: activation, then one quantisation."""
        return sum(
            number
            for kernel, number in self.kernels.items()
            if _FUSED.search(kernel) and not _BEFORE_ACTIVATION.search(kernel)
        )

    @property
    def quantising(self) -> int:
        """Kernels that quantise anything."""
        return sum(number for kernel, number in self.kernels.items() if _QUANTISE in kernel)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "architecture": self.architecture,
            "planBytes": self.plan_bytes,
            "quantisingKernels": self.quantising,
            "fusedKernels": self.fused,
            "kernels": dict(self.kernels),
            "findings": list(self.findings),
        }

    def lines(self) -> list[str]:
        """In words."""
        counted = f"{self.quantising} kernels quantise, {self.fused} of them behind bias and activation"
        said = f"{self.architecture}: TensorRT-RTX builds it, {self.plan_bytes / 1e6:.1f} MB; {counted}"
        return [said, *(f"  badly fused: {finding}" for finding in self.findings)]


def unavailable() -> str:
    """Why TensorRT-RTX cannot run here, or nothing."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"TensorRT-RTX's package is for Linux on x86-64, and this is {platform.system()} on {platform.machine()}"
    if " avx" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        return "TensorRT-RTX needs a CPU with AVX"
    try:
        _load()
    except ImportError as error:
        return f"TensorRT-RTX is not installed ({error}): `make setup` installs it"
    return ""


def check(graph: onnx.ModelProto | Path) -> tuple[Fusion, ...]:
    """Parse and build a graph for each of ARCHITECTURES, without a GPU, and look at the kernels.

    `graph` is a model or its file; inputs start with the batch, which may be dynamic. Takes about a second each.

    Raises:
        FusionUnavailableError: TensorRT-RTX cannot run here.
        BuildError: the graph is not parsed or not built; the text holds TensorRT's reason.
    """
    why = unavailable()
    if why:
        raise FusionUnavailableError(why)
    content = graph.read_bytes() if isinstance(graph, Path) else graph.SerializeToString()
    return tuple(_fusion(architecture, _build(content, architecture)) for architecture in ARCHITECTURES)


def _fusion(architecture: str, plan: bytes) -> Fusion:
    kernels = collections.Counter(kernel.decode() for kernel in _KERNEL.findall(plan))
    return Fusion(architecture, len(plan), dict(kernels.most_common()), tuple(_findings(kernels)))


def _findings(kernels: Mapping[str, int]) -> Iterator[str]:
    for kernel, number in kernels.items():
        if _BEFORE_ACTIVATION.search(kernel):
            yield f"{kernel} ({number}x): quantised between a convolution and its activation"
        if _TWICE.search(kernel):
            yield f"{kernel} ({number}x): quantised twice with nothing between"


def _load() -> Any:  # noqa: ANN401 - the package has no types
    libraries, bindings = _LIBRARIES
    importlib.import_module(libraries)
    return importlib.import_module(bindings)


def _build(graph: bytes, architecture: str) -> bytes:
    rtx = _load()
    errors: list[str] = []

    def take(_: object, severity: Any, message: str) -> None:  # noqa: ANN401 - an enumeration of the package
        if severity.name in {"ERROR", "INTERNAL_ERROR"}:
            errors.append(message)

    logger = type("FusionLogger", (rtx.ILogger,), {"log": take})()
    builder = rtx.Builder(logger)
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, logger)
    if not parser.parse(graph):
        faults = (parser.get_error(index) for index in range(parser.num_errors))
        raise BuildError("TensorRT-RTX does not parse it: " + "; ".join(f"{f.node_name()}: {f.desc()}" for f in faults))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(rtx.ComputeCapability, architecture), 0)
    _add_profile(builder, network, config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"TensorRT-RTX does not build it for {architecture}: {'; '.join(errors) or 'no reason given'}")
    return bytes(plan)


def _add_profile(builder: Any, network: Any, config: Any) -> None:  # noqa: ANN401 - the package has no types
    profile = builder.create_optimization_profile()
    shapes = {
        network.get_input(index).name: tuple(network.get_input(index).shape) for index in range(network.num_inputs)
    }
    if not any(-1 in shape for shape in shapes.values()):
        return
    for name, shape in shapes.items():
        sizes = (_PROFILE.smallest, _PROFILE.best, _PROFILE.greatest)
        profile.set_shape(name, *((size, *shape[1:]) for size in sizes))
    config.add_optimization_profile(profile)
