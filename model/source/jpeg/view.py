"""Reading TensorFlow graph definitions: who makes a tensor, who takes it."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Node = Any
"""A tensorflow.NodeDef; TensorFlow has no public types."""


def tensor_name(reference: str) -> str:
    """`node:0` of an input as a node names it: `node`, `node:0` or `^node`."""
    reference = reference.removeprefix("^")
    return reference if ":" in reference else f"{reference}:0"


def node_name(reference: str) -> str:
    """The node of an input as another node names it."""
    return reference.removeprefix("^").partition(":")[0]


def attribute(node: Node, name: str) -> Any:  # noqa: ANN401 - TensorFlow has no public types
    """An attribute, empty where the node has none of the name: asking the node itself would give it one."""
    from tensorflow.core.framework import attr_value_pb2  # noqa: PLC0415 - takes seconds to import

    return node.attr[name] if name in node.attr else attr_value_pb2.AttrValue()


def data_inputs(node: Node) -> list[str]:
    """Tensors that a node takes, in order."""
    return [tensor_name(name) for name in node.input if not name.startswith("^")]


def control_inputs(node: Node) -> list[str]:
    """Nodes that must run before a node."""
    return [node_name(name) for name in node.input if name.startswith("^")]


class GraphView:
    """A graph definition with its look-ups; valid until the definition is edited."""

    def __init__(self, graph_def: Any) -> None:  # noqa: ANN401 - TensorFlow has no public types
        self.graph_def = graph_def
        self.nodes: dict[str, Node] = {node.name: node for node in graph_def.node}
        self._users: dict[str, list[Node]] = collections.defaultdict(list)
        for node in graph_def.node:
            for name in dict.fromkeys(data_inputs(node)):
                self._users[name].append(node)

    def producer(self, tensor: str) -> Node:
        """The node that makes a tensor."""
        return self.nodes[node_name(tensor)]

    def users(self, tensor: str) -> list[Node]:
        """The nodes that take a tensor as data."""
        return self._users[tensor_name(tensor)]

    def users_of_node(self, node: Node) -> Iterator[Node]:
        """The nodes that take any output of a node as data."""
        for name, users in self._users.items():
            if node_name(name) == node.name:
                yield from users

    def past_identities(self, tensor: str) -> str:
        """The tensor that identities handed on."""
        while self.producer(tensor).op in {"Identity", "StopGradient"}:
            tensor = data_inputs(self.producer(tensor))[0]
        return tensor

    def needed_for(self, tensors: Iterable[str], stop: Callable[[Node], bool] = lambda _: False) -> set[str]:
        """Names of the nodes that tensors are computed from, theirs included; nothing before a `stop` node is."""
        found: set[str] = set()
        waiting = [node_name(tensor) for tensor in tensors]
        while waiting:
            name = waiting.pop()
            if name in found or name not in self.nodes:
                continue
            found.add(name)
            if not stop(self.nodes[name]):
                waiting += [node_name(reference) for reference in data_inputs(self.nodes[name])]
        return found

    def made_from(self, tensors: Iterable[str]) -> set[str]:
        """Names of the nodes that take tensors, or anything made from them, as data."""
        found: set[str] = set()
        takers: dict[str, list[str]] = collections.defaultdict(list)
        for node in self.graph_def.node:
            for name in data_inputs(node):
                takers[node_name(name)].append(node.name)
        waiting = [user.name for tensor in tensors for user in self.users(tensor)]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += takers[name]
        return found
