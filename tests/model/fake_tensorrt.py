"""A TensorRT 10 for machines without a GPU: it builds nothing, and refuses what the real one does.

What it knows is from NVIDIA's Python API reference for TensorRT 10 and from TensorRT 8.6.1 on a GPU. It has not been
held against TensorRT 10 itself. Removed names (`max_workspace_size`, `build_engine`) are missing here, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from typing import Any

import onnx

MAGIC = b"fake plan\n"


class Severity(Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


Logger = ILogger
"""The name that annotations use inside the module's class, which has an attribute `ILogger`."""


class BuilderFlag(Enum):
    FP16 = 0
    INT8 = 1
    TF32 = 7


class ProfilingVerbosity(Enum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class LayerInformationFormat(Enum):
    ONELINE = 0
    JSON = 1


class Tensor:
    def __init__(self, name: str, shape: Sequence[int]) -> None:
        self.name = name
        self.shape = tuple(shape)


class Network:
    def __init__(self) -> None:
        self.model: onnx.ModelProto | None = None
        self.inputs: list[Tensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_layers(self) -> int:
        return len(self.model.graph.node) if self.model else 0

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]


class Error:
    def __init__(self, text: str, node: str) -> None:
        self._text, self._node = text, node

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return self._node


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:  # noqa: A002
        shapes = tuple(tuple(shape) for shape in (min, opt, max))
        if not all(low <= mid <= high for low, mid, high in zip(*shapes, strict=True)):
            raise ValueError(f"Shape provided for {input} is invalid: {shapes}")
        self.shapes[input] = shapes


class Cache:
    def __init__(self, owner: str, entries: list[str]) -> None:
        self.owner, self.entries = owner, entries

    def serialize(self) -> memoryview:
        return memoryview(json.dumps([self.owner, self.entries]).encode())


class Config:
    def __init__(self, module: FakeTensorRt) -> None:
        self._module = module
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.flags = {BuilderFlag.TF32}
        self.profiles: list[Profile] = []
        self.cache: Cache | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        if not profile.shapes:
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Cache | None:
        if not serialized_timing_cache:
            return Cache(self._module.owner, [])
        try:
            owner, entries = json.loads(serialized_timing_cache)
        except ValueError:
            return None
        return Cache(owner, entries)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        if cache.owner != self._module.owner and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache | None:
        return self.cache


class Builder:
    def __init__(self, module: FakeTensorRt, logger: ILogger) -> None:
        if not isinstance(logger, ILogger):
            raise TypeError("__init__(): incompatible constructor arguments")
        module.builders += 1
        if module.broken:
            logger.log(Severity.ERROR, "createInferBuilder: CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._module, self._logger = module, logger

    def create_network(self, flags: int = 0) -> Network:
        if flags & ~1:
            raise AssertionError("strongly typed: precision flags would be refused")
        return Network()

    def create_builder_config(self) -> Config:
        return Config(self._module)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> memoryview | None:
        refusal = self._refusal(network, config)
        if refusal:
            self._logger.log(Severity.ERROR, refusal)
            return None
        model = network.model
        assert model is not None
        assert config.cache is not None
        known = [node.name in config.cache.entries for node in model.graph.node]
        config.cache.entries += [node.name for node in model.graph.node if node.name not in config.cache.entries]
        self._logger.log(Severity.VERBOSE, "a tactic of a hundred thousand")
        self._logger.log(Severity.INFO, "Engine generation completed in 0.1 seconds.")
        built = {
            "flags": sorted(flag.name for flag in config.flags),
            "profiles": [profile.shapes for profile in config.profiles],
            "tactics_known": sum(known),
            "layers": _layers(model, config),
        }
        self._module.built.append(built)
        return memoryview(MAGIC + json.dumps(built).encode())

    def _refusal(self, network: Network, config: Config) -> str:
        if network.model is None:
            return "Network must have at least one output"
        quantised = any(node.op_type == "QuantizeLinear" for node in network.model.graph.node)
        if quantised and BuilderFlag.INT8 not in config.flags:
            return "Error Code 4: Internal Error (Q/DQ layers need the INT8 builder flag)"
        for tensor in network.inputs:
            if -1 in tensor.shape and not config.profiles:
                return "Network has dynamic or shape inputs, but no optimization profile has been defined."
            for profile in config.profiles:
                shapes = profile.shapes.get(tensor.name)
                if shapes is None:
                    return f"input {tensor.name} has no shapes in an optimization profile"
                for shape in shapes:
                    pairs = zip(tensor.shape, shape, strict=True)
                    if any(own not in (-1, given) for own, given in pairs):
                        return f"profile shape {shape} does not match static dimensions of {tensor.name}"
        return ""


class Parser:
    def __init__(self, module: FakeTensorRt, network: Network, logger: ILogger) -> None:
        self._module, self._network, self._logger = module, network, logger
        self._errors: list[Error] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Error:
        return self._errors[index]

    def parse(self, model: bytes) -> bool:
        proto = onnx.ModelProto.FromString(model)
        constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        for node in proto.graph.node:
            # As the real parser says it of a 32-bit bias that is dequantised.
            constant = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
            if constant is not None and constant.data_type == onnx.TensorProto.INT32:
                self._errors.append(Error("input has type Int32 but must have type Int8", node.name))
        if self._errors:
            return False
        for value in proto.graph.input:
            dims = [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
            self._network.inputs.append(Tensor(value.name, dims))
        self._network.model = proto
        return True


class Inspector:
    def __init__(self, layers: Any) -> None:
        self._layers = layers

    def get_engine_information(self, format: LayerInformationFormat) -> str:  # noqa: A002
        assert format is LayerInformationFormat.JSON
        return json.dumps({"Layers": self._layers, "Bindings": []})


class Engine:
    def __init__(self, layers: Any) -> None:
        self._layers = layers

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self._layers)


class Runtime:
    def __init__(self, module: FakeTensorRt, logger: ILogger) -> None:
        self._module, self._logger = module, logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        if not serialized_engine.startswith(MAGIC):
            self._logger.log(Severity.ERROR, "Serialization assertion stdMagicTag failed.")
            return None
        return Engine(json.loads(serialized_engine[len(MAGIC) :])["layers"])


class FakeTensorRt:
    """The module. `built` holds what was built, in order; `broken` is a machine without a driver."""

    ILogger = ILogger
    BuilderFlag = BuilderFlag
    ProfilingVerbosity = ProfilingVerbosity
    LayerInformationFormat = LayerInformationFormat

    def __init__(self, version: str = "10.13.2.6", *, broken: bool = False) -> None:
        self.__version__ = version
        self.broken = broken
        self.builders = 0
        self.built: list[dict[str, Any]] = []

    @property
    def owner(self) -> str:
        return f"Tesla T4, TensorRT {self.__version__}"

    def Builder(self, logger: Logger) -> Builder:  # noqa: N802
        return Builder(self, logger)

    def OnnxParser(self, network: Network, logger: Logger) -> Parser:  # noqa: N802
        return Parser(self, network, logger)

    def Runtime(self, logger: Logger) -> Runtime:  # noqa: N802
        return Runtime(self, logger)


def _layers(model: onnx.ModelProto, config: Config) -> list[Any]:
    names = [node.name for node in model.graph.node if node.op_type in {"Conv", "Gemm"}]
    if config.profiling_verbosity is not ProfilingVerbosity.DETAILED:
        return names
    text = "Thirty-two wide channel vectorized row major Int8 format"
    if BuilderFlag.INT8 not in config.flags:
        text = "Row major FP16 format" if BuilderFlag.FP16 in config.flags else "Row major linear FP32"
    tensors = [{"Name": "tensor", "Dimensions": [8, 8, 16, 16], "Format/Datatype": text}]
    return [
        {
            "Name": name,
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": tensors,
            "Outputs": [{**tensors[0], "Name": f"{name} output"}],
            "TacticName": "turing_int8_i8816cudnn_int8",
            "Metadata": f"[ONNX Layer: {name}]",
        }
        for name in names
        if name.startswith(("stem", "expand", "depthwise", "project", "head"))
    ]
