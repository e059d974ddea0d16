"""Give a graph a numeric input in place of one of its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from model.export.frozen import FrozenSignature
from model.source.jpeg.per_image import NotRecognisedError
from model.source.jpeg.view import GraphView, attribute, node_name, tensor_name

TENSOR_INPUT: Final = "image"
"""Name of the new input, unless a node has it already."""
_NHWC: Final = ("N", "H", "W", "C")


@dataclass(frozen=True, slots=True)
class Picture:
    """How the replaced tensor holds its pictures; the new input is always RGB, float32 [N, height, width, 3]."""

    height: int
    width: int
    axes: tuple[str, ...] = _NHWC
    channels: tuple[int, ...] = (0, 1, 2)
    """Which of red, green and blue each of its channels is."""


def begin_at(signature: FrozenSignature, tensor: str, picture: Picture | None = None) -> FrozenSignature:
    """The signature with a float32 input in place of `tensor`; without `picture`, of that tensor's own shape.

    What counts the strings of the old input counts the new one's instances instead.

    Raises:
        NotRecognisedError: the answers depend on the old input in another way, too.
    """
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    graph = GraphView(signature.graph_def)
    (strings,) = (tensor_name(name) for name in signature.inputs.values())
    name = TENSOR_INPUT
    while any(node == name or node.startswith(f"{name}/") for node in graph.nodes):
        name = f"model_{name}"
    whole = tf.Graph()
    with whole.as_default(), tf.name_scope(name):
        replaced = _input(tensor, picture, signature)
        counted = {
            f"{node.name}:0": tf.cast(tf.shape(replaced.input)[:1], attribute(node, "out_type").type or tf.int32)
            for node in graph.graph_def.node
            if node.op == "Shape" and graph.past_identities(tensor_name(node.input[0])) == strings
        }
    with whole.as_default():
        tf.graph_util.import_graph_def(
            _without_waiting(graph, strings, tensor), input_map={tensor: replaced.value, **counted}, name=""
        )
    ends = [node_name(output) for output in signature.outputs.values()]
    behind = tf.compat.v1.graph_util.extract_sub_graph(whole.as_graph_def(), ends)
    if any(node.name == node_name(strings) for node in behind.node):
        left = GraphView(behind)
        also = [o for o, t in signature.outputs.items() if node_name(strings) in left.needed_for([t])]
        raise NotRecognisedError(
            f"the outputs {', '.join(also)} come from the encoded images in another way than through {tensor}, too"
        )
    return FrozenSignature(behind, {name: replaced.input.name}, dict(signature.outputs))


@dataclass(frozen=True, slots=True)
class _Replaced:
    """The new input, and what stands for the old tensor."""

    input: Any
    value: Any


def _input(tensor: str, picture: Picture | None, signature: FrozenSignature) -> _Replaced:
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    if picture is None:
        old = tf.Graph()
        with old.as_default():
            tf.graph_util.import_graph_def(signature.graph_def, name="")
        found = old.get_tensor_by_name(tensor)
        given = tf.compat.v1.placeholder(found.dtype, found.shape, name="input")
        return _Replaced(given, given)
    given = tf.compat.v1.placeholder(tf.float32, [None, picture.height, picture.width, 3], name="input")
    value = given
    if picture.channels != (0, 1, 2):
        value = tf.gather(value, list(picture.channels), axis=3)
    if picture.axes != _NHWC:
        value = tf.transpose(value, [_NHWC.index(axis) for axis in picture.axes])
    return _Replaced(given, value)


def _without_waiting(graph: GraphView, strings: str, tensor: str) -> Any:  # noqa: ANN401 - TensorFlow has no public types
    """The graph in which nothing waits for checks or for the part that is cut off."""
    from tensorflow.core.framework import graph_pb2  # noqa: PLC0415 - takes seconds to import

    cut_off = graph.made_from([strings]) - graph.made_from([tensor])
    free = graph_pb2.GraphDef()
    free.CopyFrom(graph.graph_def)
    for node in free.node:
        kept = [
            reference
            for reference in node.input
            if not reference.startswith("^")
            or (node_name(reference) not in cut_off and graph.nodes[node_name(reference)].op not in {"NoOp", "Assert"})
        ]
        del node.input[:]
        node.input.extend(kept)
        node.attr.pop("_class", None)
    return free
