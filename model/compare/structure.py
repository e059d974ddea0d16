"""What an ONNX file is made of, read from the file alone: inputs, outputs, and each layer's precision and work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, shape_inference

from model.errors import BuildError
from model.graph import Graph, attributes, copy_of
from model.quantise.placement import WEIGHTED
from model.report.content import Layer

_DEQUANTISE: Final = "DequantizeLinear"
_QUANTISE: Final = "QuantizeLinear"
_FLOATS: Final = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.DOUBLE: "fp64"}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. In `shape` a dimension that is not fixed is a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Structure:
    """One ONNX file."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opset: int
    parameters: int
    """Numbers in its constants, but for scales and zero points."""
    size_bytes: int
    layers: tuple[Layer, ...]
    """Convolutions and dense layers, in the graph's order."""

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of all layers for one image."""
        return sum(layer.macs for layer in self.layers)


def read_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises:
        BuildError: there is none, or it is not valid.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except FileNotFoundError:
        raise BuildError(f"there is no file {path}") from None
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise BuildError(f"{path} is no valid ONNX file: {' '.join(str(error).split())[:200]}") from error
    return model


def structure_of(path: Path) -> Structure:
    """Read an ONNX file and look at its layers.

    Raises:
        BuildError: there is none, or it is not valid.
    """
    model = read_graph(path)
    return Structure(
        inputs=tuple(map(_port, model.graph.input)),
        outputs=tuple(map(_port, model.graph.output)),
        opset=next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}),
        parameters=sum(int(np.prod(value.dims)) for value in _weights(model)),
        size_bytes=path.stat().st_size,
        layers=tuple(_layers(model)),
    )


def _layers(model: onnx.ModelProto) -> Iterator[Layer]:
    graph, shapes = Graph(model), _shapes(model)
    for node in graph.nodes:
        weight = _constant_behind(graph, node.input[1]) if node.op_type in WEIGHTED and len(node.input) > 1 else None
        if weight is not None:
            yield Layer(node.name, node.op_type, _precision(graph, node, weight), _macs(node, weight.dims, shapes))


def _precision(graph: Graph, node: onnx.NodeProto, weight: onnx.TensorProto) -> str:
    """`int8` where both the activation and the weight come out of a dequantisation; else the weight's own."""
    makers = [graph.producer.get(name) for name in node.input[:2]]
    if all(maker is not None and maker.op_type == _DEQUANTISE for maker in makers):
        return "int8"
    return _FLOATS.get(weight.data_type, "fp32")


def _constant_behind(graph: Graph, name: str) -> onnx.TensorProto | None:
    """The constant that a tensor is, perhaps behind Q/DQ pairs and casts."""
    while name not in graph.constants:
        maker = graph.producer.get(name)
        if maker is None or maker.op_type not in {_DEQUANTISE, _QUANTISE, "Cast", "Identity"}:
            return None
        name = maker.input[0]
    return graph.constants[name]


def _macs(node: onnx.NodeProto, weight: Sequence[int], shapes: dict[str, tuple[int, ...]]) -> int:
    """For one image; 0 where shapes are not known."""
    # A convolution's weight is [out, in / group, kernel ...], a transposed one's [in, out / group, kernel ...].
    counted = shapes.get(node.input[0] if node.op_type == "ConvTranspose" else node.output[0], ())
    if node.op_type in {"Conv", "ConvTranspose"}:
        per_value = int(np.prod(weight[1:]))
    else:
        transposed = node.op_type == "Gemm" and attributes(node).get("transB", 0)
        per_value = int(weight[-1 if transposed else -2])
    return int(np.prod(counted)) * per_value if counted and min(counted) > 0 else 0


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors for one image."""
    single = copy_of(model)
    for value in single.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and not dimensions[0].dim_value:
            dimensions[0].dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    del single.graph.value_info[:]
    inferred = shape_inference.infer_shapes(single).graph
    batch = next((v.type.tensor_type.shape.dim[0].dim_value for v in inferred.input if v.type.tensor_type.shape.dim), 1)
    found = {}
    for value in (*inferred.value_info, *inferred.output, *inferred.input):
        sizes = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
        found[value.name] = (sizes[0] // batch, *sizes[1:]) if sizes and batch > 1 and sizes[0] % batch == 0 else sizes
    return found


def _weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graph = Graph(model)
    scales = {name for node in graph.nodes if node.op_type in {_QUANTISE, _DEQUANTISE} for name in node.input[1:]}
    return (tensor for tensor in model.graph.initializer if tensor.name not in scales)


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    shape = tuple(
        dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or "?"
        for dimension in kind.shape.dim
    )
    return Port(value.name, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name, shape)
