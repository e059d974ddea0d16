"""Kernels in NCHW, which TensorFlow lacks for CPUs, run in NHWC between transpositions.

With oneDNN TensorFlow has some of them, on some CPUs: the reference must not depend on that.
"""

from __future__ import annotations

from typing import Any, Final

_TO_NHWC: Final = (0, 2, 3, 1)
_TO_NCHW: Final = (0, 3, 1, 2)
_KERNELS: Final = {"AvgPool", "Conv2D", "DepthToSpace", "DepthwiseConv2dNative", "MaxPool", "SpaceToDepth"}
"""Operators without a kernel in NCHW on every CPU; each takes an image first and makes one."""
_PER_AXIS: Final = {"strides": 1, "dilations": 1, "ksize": 1, "explicit_paddings": 2}
"""Attributes with numbers for each axis, and how many for one."""


def takes_nchw(graph_def: Any) -> bool:  # noqa: ANN401 - TensorFlow has no public types
    """Whether some kernel of the graph works in NCHW."""
    return any(_is_nchw(node) for node in graph_def.node)


def with_nhwc_kernels(graph_def: Any) -> Any:  # noqa: ANN401 - likewise
    """The same function of the same tensors, its NCHW kernels in NHWC; the graph itself where it has none."""
    if not takes_nchw(graph_def):
        return graph_def
    rewritten = type(graph_def)()
    rewritten.library.CopyFrom(graph_def.library)
    rewritten.versions.CopyFrom(graph_def.versions)
    _add_permutation(rewritten, "nhwc/to_nhwc", _TO_NHWC)
    _add_permutation(rewritten, "nhwc/to_nchw", _TO_NCHW)
    for node in graph_def.node:
        if not _is_nchw(node):
            rewritten.node.add().CopyFrom(node)
            continue
        kernel = rewritten.node.add()
        kernel.CopyFrom(node)
        kernel.name = f"nhwc/{node.name}"
        kernel.attr["data_format"].s = b"NHWC"
        for name, each in _PER_AXIS.items():
            if name in node.attr:
                _permute(kernel.attr[name].list.i, each)
        kernel.input[0] = f"nhwc/{node.name}/image"
        _add_transpose(rewritten, kernel.input[0], node.input[0], "nhwc/to_nhwc", node.attr["T"].type)
        # The name of the kernel is now the transposition's, so its consumers need not change.
        _add_transpose(rewritten, node.name, kernel.name, "nhwc/to_nchw", node.attr["T"].type)
    return rewritten


def _is_nchw(node: Any) -> bool:  # noqa: ANN401 - likewise
    return node.op in _KERNELS and node.attr["data_format"].s == b"NCHW"


def _permute(values: Any, each: int) -> None:  # noqa: ANN401 - likewise
    """Reorder a list with `each` numbers for N, C, H and W to N, H, W, C."""
    if len(values) == 4 * each:
        groups = [list(values[start : start + each]) for start in range(0, 4 * each, each)]
        values[:] = [value for axis in _TO_NHWC for value in groups[axis]]


def _add_permutation(graph_def: Any, name: str, axes: tuple[int, ...]) -> None:  # noqa: ANN401 - likewise
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    node = graph_def.node.add(name=name, op="Const")
    node.attr["dtype"].type = tf.int32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(list(axes), tf.int32))


def _add_transpose(graph_def: Any, name: str, taken: str, axes: str, kind: int) -> None:  # noqa: ANN401 - likewise
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    node = graph_def.node.add(name=name, op="Transpose", input=[taken, axes])
    node.attr["T"].type = kind
    node.attr["Tperm"].type = tf.int32.as_datatype_enum
