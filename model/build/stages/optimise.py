"""Fold what can be folded, and compare the result with the original: the FP32 graph that all others are judged by."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx

from model.build.refusal import phrase, refuse
from model.build.stage import StageWork
from model.build.stages import export, source
from model.evaluate.answers import answers, filled, float_outputs
from model.evaluate.export_gates import export_gates, need_numbers
from model.export.onnx_export import optimise
from model.quantise import folding

FP32: Final = "fp32.onnx"
_MOST_COMPARED: Final = 24
"""Instances: TensorFlow answers them one batch after the other."""


def run(work: StageWork) -> None:
    """Write the optimised graph.

    Raises:
        BuildError: it does not answer as the original does, or the original answers no numbers.
    """
    fp32 = folding.optimise(optimise(onnx.load(work.earlier["export"] / export.GRAPH)))
    onnx.save(fp32, work.folder / FP32)
    work.fraction(0.3)
    model = source.load(work.earlier["source"], graph=True)
    inputs = work.material(model).some_inputs(max(_MOST_COMPARED, model.fixed_batch or 0))
    inputs = tuple(filled(values, model.fixed_batch) for values in inputs)
    exported = answers(fp32, inputs, model.fixed_batch)
    batch = model.fixed_batch or len(inputs[0])
    for output in float_outputs(fp32):
        original = model.frozen.runner(output, before_softmax=True)
        starts = range(0, len(inputs[0]) - batch + 1, batch)
        parts = [original(*(values[start : start + batch] for values in inputs)) for start in starts]
        reference = np.concatenate(parts)
        need_numbers(output, reference)
        gates = export_gates(reference, exported[output][: len(reference)], classifier=output == model.classifier)
        work.line(f"  {output}: {', '.join(map(phrase, gates))}")
        refuse("the exported FP32 graph", gates)
