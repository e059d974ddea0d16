"""Branches that a constant decides, such as those on a training flag: only the one that is taken stays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

_OPTIMISERS: Final = ("constfold", "loop", "dependency")
"""Of Grappler: `loop` removes the dead side of a Switch whose predicate `constfold` has found constant."""


def with_defaults(graph_def: Any, fed: Iterable[str]) -> Any:  # noqa: ANN401 - TensorFlow has no public types
    """The graph with the default of every placeholder that has one and is not among the tensors `fed`."""
    names = {tensor.partition(":")[0] for tensor in fed}
    if not any(node.op == "PlaceholderWithDefault" and node.name not in names for node in graph_def.node):
        return graph_def
    decided = type(graph_def)()
    decided.CopyFrom(graph_def)
    for node in decided.node:
        if node.op == "PlaceholderWithDefault" and node.name not in names:
            kind = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = kind
    return decided


def with_decided_branches(graph_def: Any, kept: Iterable[str]) -> Any:  # noqa: ANN401 - likewise
    """The graph without branches that cannot be taken; the tensors `kept` stay. The graph itself if it has none."""
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2  # noqa: PLC0415 - likewise
    from tensorflow.python.grappler import tf_optimizer  # noqa: PLC0415 - likewise

    if not any(node.op == "Switch" for node in graph_def.node):
        return graph_def
    config = config_pb2.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.optimizers[:] = _OPTIMISERS
    rewriting.min_graph_nodes = -1
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def)
    fetched = meta_graph_pb2.CollectionDef()
    fetched.node_list.value.extend(kept)
    meta_graph.collection_def["train_op"].CopyFrom(fetched)
    return tf_optimizer.OptimizeGraph(config, meta_graph)
