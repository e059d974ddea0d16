"""From a frozen TensorFlow signature to an optimised ONNX graph with the signature's own tensor names."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

import onnx
import onnxruntime

from model.errors import BuildError
from model.export.frozen import FrozenSignature, reason_of
from model.graph import rename_tensors, replace_nodes

OPSET: Final = 17
"""The newest that TensorRT 8.6 parses (facts: it was tried), and enough for per-channel Q/DQ."""
IR_VERSION: Final = 8
BATCH: Final = "N"
"""Name of the batch dimension of every input and output."""


def export_onnx(signature: FrozenSignature, outputs: Collection[str]) -> onnx.ModelProto:
    """Convert with tf2onnx and name inputs and outputs as the signature does; `optimise` makes of it what is served.

    Of the signature's outputs only `outputs` are kept: an argmax, say, is left to serving.

    Raises:
        BuildError: the converter cannot convert it, in spite of `model.export.checks`.
    """
    import tf2onnx  # noqa: PLC0415 - imports TensorFlow, which takes seconds

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    kept = {name: tensor for name, tensor in signature.outputs.items() if name in outputs}
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            signature.graph_def,
            input_names=list(signature.inputs.values()),
            output_names=list(kept.values()),
            opset=OPSET,
        )
    except Exception as error:
        raise BuildError(f"tf2onnx {tf2onnx.__version__} cannot convert the model: {reason_of(error)}") from error
    rename_tensors(model, {tensor: name for name, tensor in {**signature.inputs, **kept}.items()})
    for value in (*model.graph.input, *model.graph.output):
        batch = value.type.tensor_type.shape.dim[0]
        if batch.dim_value < 1:
            batch.dim_param = BATCH
    # tf2onnx's graphs are reference cycles: without this the build holds 0.6 GiB more to its end.
    gc.collect()
    return model


def optimise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and batch normalisation into convolutions, using portable operators only.

    Nodes and inner tensors get short names in graph order, so that the bytes do not depend on a converter's counters.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimised.onnx")
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(path)
    portable = [opset for opset in optimised.opset_import if opset.domain in {"", "ai.onnx"}]
    del optimised.opset_import[:]
    optimised.opset_import.extend(portable)
    optimised.ir_version = IR_VERSION
    optimised.producer_name, optimised.producer_version, optimised.doc_string = "tensorrt-fleet", "", ""
    del optimised.metadata_props[:]
    _name_in_order(optimised)
    onnx.checker.check_model(optimised)
    return optimised


def _name_in_order(model: onnx.ModelProto) -> None:
    outer = {value.name for value in (*model.graph.input, *model.graph.output)}
    names: dict[str, str] = {}
    for number, node in enumerate(model.graph.node):
        node.name, node.doc_string = f"{node.op_type}_{number}", ""
        for position, constant in enumerate(node.input):
            if constant and constant not in names and constant not in outer:
                names[constant] = f"{node.name}_{'xwb'[position] if position < 3 else position}"
        for position, output in enumerate(node.output):
            if output not in outer:
                names[output] = f"{node.name}_out" + (f"_{position}" if position else "")
    rename_tensors(model, names)
    model.graph.name = "model"
    replace_nodes(model, list(model.graph.node))
    constants = sorted(model.graph.initializer, key=lambda tensor: tensor.name)
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
