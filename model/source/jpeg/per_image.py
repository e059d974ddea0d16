"""The part of a graph that is run for each JPEG: what tf.map_fn repeats, taken out of its loop.

Freezing has made loops of every TensorFlow version the same: Enter, Merge, Switch, NextIteration and Exit around a body
that reads one string of an array and writes one image into another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from model.source.jpeg.view import GraphView, Node, attribute, control_inputs, data_inputs, node_name, tensor_name

DECODERS: Final = {"DecodeJpeg", "DecodeAndCropJpeg", "DecodeImage", "DecodePng"}
_READS: Final = {"TensorArrayReadV3", "TensorListGetItem"}
_WRITES: Final = {"TensorArrayWriteV3", "TensorListSetItem"}
_COLLECTS: Final = {"TensorArrayGatherV3", "TensorArrayConcatV3", "TensorListStack"}
_LOOP: Final = {"Identity", "NextIteration", "Merge", "Switch", "Exit"}
_ONE_OF_MANY: Final = {"Identity", "Reshape", "Squeeze", "StridedSlice", "GatherV2", "Unpack", "StringStrip"}
"""What may stand between a batch of one string and the decoder."""


class NotRecognisedError(Exception):
    """The graph does something with its JPEGs that is not understood; the message says what."""


@dataclass(frozen=True, slots=True)
class PerImage:
    """`graph_def` takes one encoded image at the tensor `content`, decodes it at `decoder` and makes `value` of it.

    `batch` is the tensor of the whole graph in which the values of all images are stacked. Where the graph decodes one
    image without a loop, `graph_def` is the whole graph, `content` its input, and `value` and `batch` are empty.
    """

    graph_def: Any
    content: str
    decoder: Node
    value: str
    batch: str


def per_image(graph: GraphView, strings: str) -> PerImage:
    """Find the decoder that the input tensor `strings` leads to and what is done to each image.

    Raises:
        NotRecognisedError: no decoder, several, or an unusual way to or from it.
    """
    from_strings = graph.made_from([strings])
    decoders = [node for node in graph.graph_def.node if node.op in DECODERS and node.name in from_strings]
    if not decoders:
        parsers = sorted({graph.nodes[name].op for name in from_strings if "ParseExample" in graph.nodes[name].op})
        hint = f"; it is read by {parsers[0]}, so it takes serialised tf.Examples and not images" if parsers else ""
        raise NotRecognisedError(f"nothing decodes the input {strings}{hint}")
    if len(decoders) > 1:
        raise NotRecognisedError(f"{len(decoders)} nodes decode images: {', '.join(node.name for node in decoders)}")
    (decoder,) = decoders
    read = _read_of(graph, decoder)
    if read is None:
        return PerImage(graph.graph_def, strings, decoder, "", "")
    writes = [
        node
        for node in graph.graph_def.node
        if node.op in _WRITES and node_name(data_inputs(node)[2]) in graph.made_from([f"{decoder.name}:0"])
    ]
    if len(writes) != 1:
        raise NotRecognisedError(
            f"the loop around {decoder.name} keeps {len(writes)} results an image; only one, the picture, is understood"
        )
    value = data_inputs(writes[0])[2]
    return PerImage(
        _Unrolled(graph, read).graph_of(value), f"{read.name}:0", decoder, value, _stacked(graph, writes[0])
    )


def _read_of(graph: GraphView, decoder: Node) -> Node | None:
    """The node that reads one string from an array for the decoder; None where there is no loop."""
    tensor = data_inputs(decoder)[0]
    while True:
        node = graph.producer(tensor)
        if node.op in _READS:
            return node
        if node.op == "Placeholder":
            return None
        if node.op not in _ONE_OF_MANY:
            raise NotRecognisedError(f"{node.name} ({node.op}) stands between the input and the decoder {decoder.name}")
        tensor = data_inputs(node)[0]


def _stacked(graph: GraphView, write: Node) -> str:
    """The tensor in which a loop's results are stacked."""
    waiting, seen = [write], {write.name}
    while waiting:
        for user in graph.users_of_node(waiting.pop()):
            if user.op in _COLLECTS:
                return f"{user.name}:0"
            if user.op in _LOOP and user.name not in seen:
                seen.add(user.name)
                waiting.append(user)
    raise NotRecognisedError(f"what {write.name} ({write.op}) collects is not stacked to one tensor")


class _Unrolled:
    """Takes one turn out of a loop: `read` becomes an input, and what does not change from turn to turn is inlined."""

    def __init__(self, graph: GraphView, read: Node) -> None:
        self._graph = graph
        self._read = read

    def graph_of(self, value: str) -> Any:  # noqa: ANN401 - TensorFlow has no public types
        from tensorflow.core.framework import graph_pb2  # noqa: PLC0415 - takes seconds to import

        body = graph_pb2.GraphDef()
        body.versions.CopyFrom(self._graph.graph_def.versions)
        added: set[str] = set()
        waiting = [node_name(value)]
        while waiting:
            name = waiting.pop()
            if name in added:
                continue
            added.add(name)
            copy = body.node.add()
            self._copy(self._graph.nodes[name], copy)
            waiting += [node_name(reference) for reference in copy.input]
        return body

    def _copy(self, node: Node, copy: Node) -> None:
        from tensorflow.core.framework import types_pb2  # noqa: PLC0415 - takes seconds to import

        if node.name == self._read.name:
            copy.name, copy.op = node.name, "Placeholder"
            copy.attr["dtype"].type = types_pb2.DT_STRING
            return
        outer = self._outer(node)
        if outer is not None:
            # A Switch has two outputs and its user names the second: Identity gives it to both with IdentityN.
            copy.name, copy.op = node.name, "IdentityN" if node.op == "Switch" else "Identity"
            if node.op == "Switch":
                copy.attr["T"].list.type.extend([attribute(node, "T").type] * 2)
                copy.input.extend([outer, outer])
            else:
                copy.attr["T"].CopyFrom(attribute(node, "T"))
                copy.input.append(outer)
            return
        copy.CopyFrom(node)
        # Colocation may name a node that stays behind.
        copy.attr.pop("_class", None)
        del copy.input[:]
        copy.input.extend(data_inputs(node))
        copy.input.extend(f"^{name}" for name in control_inputs(node) if self._is_of_branch(name))

    def _outer(self, node: Node) -> str | None:
        """The tensor outside the loop that a node of its frame hands in unchanged."""
        if node.op == "Enter":
            return tensor_name(node.input[0])
        if node.op != "Switch" or not self._is_of_loop(node):
            return None
        merge = self._graph.producer(data_inputs(node)[0])
        enter, following = (self._graph.producer(name) for name in data_inputs(merge))
        if self._graph.past_identities(data_inputs(following)[0]) != f"{node.name}:1":
            raise NotRecognisedError(f"what is done to an image depends on the turn of the loop, at {node.name}")
        return tensor_name(enter.input[0])

    def _is_of_loop(self, switch: Node) -> bool:
        return bool(self._graph.producer(data_inputs(switch)[1]).op == "LoopCond")

    def _is_of_branch(self, name: str) -> bool:
        """Whether a node runs only in one branch of a tf.cond: what waits for it must go on waiting."""
        node = self._graph.nodes[name]
        if node.op == "Switch":
            return not self._is_of_loop(node)
        if node.op == "Identity":
            return self._is_of_branch(node_name(node.input[0]))
        return node.op == "NoOp" and any(self._is_of_branch(before) for before in control_inputs(node))
