"""Reading and editing ONNX graphs: who makes a tensor, who takes it, what is constant."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FloatArray = npt.NDArray[np.float32]
Batch = npt.NDArray[Any] | tuple[npt.NDArray[Any], ...]
"""A graph's inputs in order, each [images, ...]; of a graph with one input that array alone will do."""


class Graph:
    """A model with the look-ups that its edges need; valid until the model is edited."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer: dict[str, onnx.NodeProto] = {name: node for node in self.nodes for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = collections.defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.consumers[name].append(node)

    def constant(self, name: str) -> npt.NDArray[Any]:
        """Value of a constant tensor."""
        value: npt.NDArray[Any] = numpy_helper.to_array(self.constants[name])
        return value

    def is_output(self, name: str) -> bool:
        """Whether a tensor is one of the graph's own outputs."""
        return any(output.name == name for output in self.model.graph.output)

    def reads(self, name: str) -> tuple[tuple[str, int], ...]:
        """(node name, input index) pairs that take a tensor."""
        takers = {id(node): node for node in self.consumers[name]}
        return tuple((node.name, i) for node in takers.values() for i, taken in enumerate(node.input) if taken == name)

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """The node that takes a tensor, or None where several do, or the graph's own outputs."""
        return self.consumers[name][0] if len(self.consumers[name]) == 1 and not self.is_output(name) else None


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of its own with the same content."""
    duplicate = onnx.ModelProto()
    duplicate.CopyFrom(model)
    return duplicate


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def constant(name: str, value: npt.NDArray[Any] | np.generic) -> onnx.TensorProto:
    """A constant tensor."""
    return numpy_helper.from_array(np.asarray(value), name)


def rename_tensors(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Rename tensors wherever they occur."""
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.name = names.get(value.name, value.name)


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make `nodes`, in this order, the whole graph, and drop constants that nothing takes any more."""
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    del model.graph.value_info[:]


def topological(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes, each behind those that make its inputs, otherwise in their order."""
    graph = Graph(model)
    done: dict[int, onnx.NodeProto] = {}

    def visit(node: onnx.NodeProto) -> None:
        stack = [node]
        while stack:
            waiting = [graph.producer[name] for name in stack[-1].input if name in graph.producer]
            waiting = [producer for producer in waiting if id(producer) not in done]
            if waiting:
                stack += waiting
            else:
                ready = stack.pop()
                done[id(ready)] = ready

    for node in graph.nodes:
        if id(node) not in done:
            visit(node)
    return list(done.values())


def logit_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """For each float output the tensor that says most about errors in it: before a final softmax, else the output."""
    graph = Graph(model)
    tensors = []
    for output in model.graph.output:
        if output.type.tensor_type.elem_type == TensorProto.FLOAT:
            producer = graph.producer.get(output.name)
            # An FP16 graph answers through casts.
            while producer is not None and producer.op_type == "Cast":
                producer = graph.producer.get(producer.input[0])
            softmax = producer is not None and producer.op_type == "Softmax"
            tensors.append(producer.input[0] if producer is not None and softmax else output.name)
    return tuple(tensors)


def feeds(model: onnx.ModelProto, batch: Batch) -> dict[str, npt.NDArray[Any]]:
    """A batch by the names of the graph's inputs."""
    arrays = batch if isinstance(batch, tuple) else (batch,)
    return dict(zip((value.name for value in model.graph.input), arrays, strict=True))


def images_in(batch: Batch) -> int:
    """Length of the batch axis."""
    return len(batch[0]) if isinstance(batch, tuple) else len(batch)


def session(
    model: onnx.ModelProto, extra_outputs: Iterable[str] = (), threads: int = 0
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime CPU session, with inner float tensors as further outputs; `threads` 0 means one a core."""
    observed = copy_of(model)
    present = {output.name for output in observed.graph.output}
    for name in extra_outputs:
        if name not in present:
            observed.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
