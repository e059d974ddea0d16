"""From TensorFlow to ONNX, operator by operator."""

from __future__ import annotations

from typing import Final

import onnx

from model.build.stage import StageWork
from model.build.stages import source
from model.export.onnx_export import export_onnx

GRAPH: Final = "exported.onnx"


def run(work: StageWork) -> None:
    """Write the graph as it was converted.

    Raises:
        BuildError: an operator or a shape that cannot be converted.
    """
    model = source.load(work.earlier["source"], graph=True)
    onnx.save(export_onnx(model.frozen, model.graph_outputs), work.folder / GRAPH)
