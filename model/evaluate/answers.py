"""What a graph answers to many instances, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from model.graph import FloatArray, logit_tensors, session
from model.values import values_of

Answers = Mapping[str, FloatArray]
"""For each float output the tensor that says most about errors in it (`logit_tensors`), float32 [instances, ...]."""
Inputs = tuple[npt.NDArray[Any], ...]
"""An array [instances, ...] for each input, in their order."""

BATCH: Final = 8


def answers(
    model: onnx.ModelProto,
    inputs: Inputs,
    fixed_batch: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Answers:
    """Run a graph in ONNX Runtime on the CPU. `progress` is told the share of instances done.

    A graph of a fixed batch takes exactly that many instances: the last batch is filled up and cut off again.
    """
    tensors, outputs = logit_tensors(model), float_outputs(model)
    run = session(model, tensors)
    names = [value.name for value in model.graph.input]
    batch, count = fixed_batch or BATCH, len(inputs[0])
    parts: list[Sequence[npt.NDArray[Any]]] = []
    for start in range(0, count, batch):
        end = min(start + batch, count)
        feed = {name: filled(values[start:end], fixed_batch) for name, values in zip(names, inputs, strict=True)}
        parts.append([values[: end - start] for values in values_of(run, tensors, feed)])
        progress(end / count)
    return {
        output: np.concatenate([part[number] for part in parts]).astype(np.float32)
        for number, output in enumerate(outputs)
    }


def float_outputs(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of a graph's float outputs: integers, such as a chosen class, follow from them."""
    return tuple(value.name for value in model.graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT)


def filled(values: npt.NDArray[Any], batch: int | None) -> npt.NDArray[Any]:
    """At least `batch` instances: the last one is repeated where there are fewer."""
    missing = (batch or 0) - len(values)
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)]) if missing > 0 else values
