"""Tensors at which a graph that takes JPEG strings could be cut: what is behind needs nothing else of the strings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from model.source.jpeg.view import GraphView, Node, data_inputs, node_name, tensor_name

_MOST: Final = 5
"""As many as one error lists, those nearest to the images first."""
_HANDED_ON: Final = {"Identity", "StopGradient", "EnsureShape", "Enter", "Exit", "Merge", "Switch", "NextIteration"}


def candidates(graph: GraphView, strings: str, outputs: Iterable[str]) -> tuple[str, ...]:
    """Float tensors through which all outputs get what they know of `strings`, as `name (operation, type shape)`."""
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    ends = {node_name(output) for output in outputs}
    between = graph.made_from([strings]) & graph.needed_for(ends)
    in_loops = _in_loops(graph)
    loaded = tf.Graph()
    with loaded.as_default():
        tf.graph_util.import_graph_def(graph.graph_def, name="")
    found = []
    for node in loaded.get_operations():
        if node.name not in between - in_loops - ends or node.type in _HANDED_ON or len(node.outputs) != 1:
            continue
        tensor = node.outputs[0]
        if tensor.dtype != tf.float32 or tensor.shape.rank in {None, 0, 1}:
            continue
        if not _reaches(graph, strings, ends, without=node.name):
            found.append((len(graph.needed_for([tensor.name])), f"{tensor.name} ({node.type}, float32 {tensor.shape})"))
    return tuple(text for _, text in sorted(found)[:_MOST])


def _in_loops(graph: GraphView) -> set[str]:
    entered = [f"{node.name}:0" for node in graph.graph_def.node if node.op == "Enter"]
    left = [name for node in graph.graph_def.node if node.op == "Exit" for name in data_inputs(node)]
    return graph.made_from(entered) & graph.needed_for(left)


def _reaches(graph: GraphView, strings: str, ends: set[str], without: str) -> bool:
    """Whether outputs still depend on the strings, apart from their number, when one node is gone."""
    seen: set[str] = set()
    waiting: list[Node] = list(graph.users(tensor_name(strings)))
    while waiting:
        node = waiting.pop()
        if node.name in seen or node.name == without:
            continue
        if node.op == "Shape" and graph.past_identities(data_inputs(node)[0]) == strings:
            continue
        seen.add(node.name)
        waiting += graph.users_of_node(node)
    return bool(seen & ends)
