"""FP16 form of a graph, for GPUs; inputs, outputs and the final softmax stay FP32."""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from model.graph import copy_of, replace_nodes, topological


def half_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph computing in FP16.

    Only for float graphs: with FP16 scales ONNX Runtime 1.32 answers quantised ones wrongly on a CPU.
    """
    half = convert_float_to_float16(
        copy_of(model), keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Softmax"]
    )
    replace_nodes(half, topological(half))
    onnx.checker.check_model(half)
    return half
