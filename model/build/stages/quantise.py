"""Write the artifact's graphs: both INT8 ones from one calibration, and the float ones."""

from __future__ import annotations

from pathlib import Path

import onnx

from artifact.manifest import Precision, graph_path
from model.build.calibrated import Calibrated
from model.build.graphs import QUANTISED, forms_of, in_form
from model.build.stage import StageWork
from model.build.stages import calibrate, optimise, source
from model.export.half import half_graph
from model.source.models import SourceModel


def run(work: StageWork) -> None:
    """Write `onnx/<precision>.<form>.onnx` for each precision and form."""
    model = source.load(work.earlier["source"])
    recipe = work.request.recipe
    fp32 = onnx.load(work.earlier["optimise"] / optimise.FP32)
    base = onnx.load(work.earlier["calibrate"] / calibrate.BASE)
    groups = calibrate.load(work.earlier["calibrate"])
    calibrated = Calibrated(base, groups, recipe, model, work.material(model))
    graphs: dict[Precision, onnx.ModelProto] = {"fp32": fp32, "fp16": half_graph(fp32)}
    graphs |= {precision: calibrated.graph(precision) for precision in QUANTISED}
    for precision, graph in graphs.items():
        write_graphs(work.folder, precision, graph, model)
    work.line(f"  method {recipe.method}" + (", bias corrected" if recipe.bias_correction else ""))


def write_graphs(folder: Path, precision: Precision, graph: onnx.ModelProto, source: SourceModel) -> None:
    """Put a graph, given in tensor form, where the artifact has it, in each of its forms."""
    for form in forms_of(source):
        path = folder / graph_path(precision, form)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(in_form(graph, form, source).SerializeToString(deterministic=True))
