"""The part of TensorRT 10's Python package that plans are built with, as types, and its lazy import.

The package comes with NVIDIA's TensorRT container and is in no lock file: a plan is read by the very version that wrote
it, so it must be the container's. Names and behaviour follow NVIDIA's Python API reference for TensorRT 10.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

from model.errors import BuildError

MAJOR: Final = 10
"""TensorRT 11 has neither INT8 and FP16 flags nor weakly typed networks (NVIDIA, TensorRT 11 migration guide)."""

Member: TypeAlias = Any
"""A member of one of TensorRT's enumerations, which exist at run time only."""
HostMemory: TypeAlias = Any
"""A buffer that TensorRT owns: `bytes()` copies it."""
Logger: TypeAlias = Any
"""An instance of a subclass of `ILogger`, which exists at run time only."""


class Severity(Protocol):
    """Of a message: INTERNAL_ERROR, ERROR, WARNING, INFO or VERBOSE."""

    name: str


class Tensor(Protocol):
    """An input of a network; -1 in a shape is a dimension that a profile bounds."""

    name: str
    shape: Sequence[int]


class Network(Protocol):
    """A parsed graph."""

    num_inputs: int
    num_layers: int

    def get_input(self, index: int) -> Tensor:
        """Input by index."""
        ...


class ParserError(Protocol):
    """Why a graph was not parsed."""

    def desc(self) -> str:
        """What is wrong."""
        ...

    def node_name(self) -> str:
        """Name of the ONNX node, or nothing."""
        ...


class Parser(Protocol):
    """The ONNX parser."""

    num_errors: int

    def parse(self, model: bytes) -> bool:
        """Fill the network; False with errors."""
        ...

    def get_error(self, index: int) -> ParserError:
        """Error by index."""
        ...


class Profile(Protocol):
    """An optimisation profile."""

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:  # noqa: A002
        """Bound an input's shape; raises ValueError where the shapes do not rise."""
        ...


class TimingCache(Protocol):
    """How long tactics took."""

    def serialize(self) -> HostMemory:
        """Buffer of bytes."""
        ...


class Config(Protocol):
    """How one plan is built."""

    profiling_verbosity: Member

    def set_flag(self, flag: Member) -> None:
        """Set a BuilderFlag."""
        ...

    def clear_flag(self, flag: Member) -> None:
        """Clear a BuilderFlag."""
        ...

    def add_optimization_profile(self, profile: Profile) -> int:
        """Index of the profile, or -1 where it is not valid."""
        ...

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache | None:
        """A cache from bytes; an empty one from none."""
        ...

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        """Use a cache; False where it was made by another TensorRT or on another GPU."""
        ...

    def get_timing_cache(self) -> TimingCache | None:
        """The cache in use."""
        ...


class Builder(Protocol):
    """Builds plans. Making one loads the kernel library: seconds and gigabytes."""

    def create_network(self, flags: int = 0) -> Network:
        """An empty network: of explicit batch and, with no flags, weakly typed."""
        ...

    def create_builder_config(self) -> Config:
        """A configuration."""
        ...

    def create_optimization_profile(self) -> Profile:
        """An empty profile."""
        ...

    def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None:
        """The plan as a buffer, or None: the log says why."""
        ...


class Inspector(Protocol):
    """Tells what an engine consists of."""

    def get_engine_information(self, format: Member) -> str:  # noqa: A002
        """All layers, as JSON."""
        ...


class Engine(Protocol):
    """A plan read back."""

    def create_engine_inspector(self) -> Inspector:
        """Its inspector."""
        ...


class Runtime(Protocol):
    """Reads plans."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        """The engine, or None: the log says why."""
        ...


class TensorRt(Protocol):
    """The module `tensorrt`."""

    __version__: str
    ILogger: type[Any]
    Builder: Callable[[Logger], Builder]
    OnnxParser: Callable[[Network, Logger], Parser]
    Runtime: Callable[[Logger], Runtime]
    BuilderFlag: Any
    ProfilingVerbosity: Any
    LayerInformationFormat: Any


def load_tensorrt() -> TensorRt:
    """Import TensorRT.

    Raises:
        BuildError: it is not there, does not load, or is of another major version.
    """
    try:
        module = importlib.import_module("tensorrt")
    except ImportError as error:
        raise BuildError(
            f"TensorRT's Python package cannot be imported ({error}): plans are built in NVIDIA's TensorRT container "
            "(setting model.builder.container) on a machine with its GPU; --runtime onnxruntime-cpu needs none"
        ) from error
    tensorrt = cast("TensorRt", module)
    if major(tensorrt.__version__) != MAJOR:
        raise BuildError(
            f"TensorRT here is {tensorrt.__version__}: plans are built with {MAJOR}.x, whose weakly typed networks run "
            "what is not quantised in FP16; name a container that holds it (25.08 does)"
        )
    return tensorrt


def major(version: str) -> int:
    """Major number of a version like `10.13.2.6`; 0 where there is none."""
    number = version.partition(".")[0]
    return int(number) if number.isdecimal() else 0
