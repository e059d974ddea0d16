"""What good and broken graphs of EfficientNet-Lite0 measure, in five folds: where the gates' thresholds come from.

    python -m benchmarks.model.thresholds --out build/thresholds.json

Takes about ten minutes on two cores. `model/evaluate/gates.py` quotes its table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from artifact.manifest import Accuracy
from artifact.recipe import BuildRequest, Recipe
from model.build.calibrated import Calibrated
from model.build.evaluation import Evaluation
from model.build.graphs import QuantisedPrecision
from model.build.machine import machine_class
from model.build.material import material
from model.build.split import Groups
from model.export.onnx_export import export_onnx, optimise
from model.quantise import qdq
from model.quantise.int8 import calibrated_tensors
from model.quantise.statistics import Histogram, collect_groups
from model.source.calibration import calibration_set
from model.source.models import prepare_source


@dataclass(frozen=True, slots=True)
class Graph:
    """One way to quantise, as it should be done or broken on purpose."""

    name: str
    good: bool
    precision: QuantisedPrecision
    recipe: Recipe
    wider: float = 1.0
    """Every range is this many times too wide."""
    one_weight_scale: bool = False


GRAPHS = (
    Graph("TensorRT graph, mse", True, "int8", Recipe(method="mse")),
    Graph("TensorRT graph, max", True, "int8", Recipe(method="max")),
    Graph("CPU graph, 8-bit weights, mse", True, "int8-cpu", Recipe(method="mse", cpu_weight_bits=8)),
    Graph("CPU graph, 7-bit weights, mse", True, "int8-cpu", Recipe(method="mse")),
    Graph("CPU graph, 7-bit weights, max", True, "int8-cpu", Recipe(method="max")),
    Graph("CPU graph, 7-bit weights, percentile", True, "int8-cpu", Recipe(method="percentile")),
    Graph("TensorRT graph, ranges twice too wide", False, "int8", Recipe(method="mse"), wider=2),
    Graph("TensorRT graph, ranges four times too wide", False, "int8", Recipe(method="mse"), wider=4),
    Graph("TensorRT graph, entropy", False, "int8", Recipe(method="entropy")),
    Graph("TensorRT graph, one weight scale a tensor", False, "int8", Recipe(method="mse"), one_weight_scale=True),
    Graph("CPU graph, entropy", False, "int8-cpu", Recipe(method="entropy")),
    Graph("CPU graph, ranges twice too wide", False, "int8-cpu", Recipe(method="mse"), wider=2),
)


def main(arguments: list[str] | None = None) -> None:
    """Measure every graph, telling each as it is done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model.thresholds", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON with every row")
    out: Path = parser.parse_args(arguments).out
    rows: list[dict[str, Any]] = []
    print(f"| graph | SQNR | agreement (95 % interval) | widest flip |  on {machine_class()}")
    for graph, accuracy in _measured(GRAPHS):
        gates = {gate.name: gate.value for gate in accuracy.gates}
        assert accuracy.agreement_interval is not None
        low, high = accuracy.agreement_interval
        print(
            f"| {graph.name} | {accuracy.sqnr_db:.1f} dB | {accuracy.agreement:.3f} ({low:.3f} to {high:.3f}) "
            f"| {gates['margin of flips']:.2f} |",
            flush=True,
        )
        rows.append({"graph": graph.name, "good": graph.good, **accuracy.model_dump(mode="json")})
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"machine": machine_class(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _measured(graphs: tuple[Graph, ...]) -> Iterator[tuple[Graph, Accuracy]]:
    request = BuildRequest()
    with tempfile.TemporaryDirectory() as folder:
        source = prepare_source(request, Path(folder))
        fp32 = optimise(export_onnx(source.frozen, source.graph_outputs))
        photos = material(calibration_set(request.calibration, source, Path(folder)), request.calibration, source)
        evaluation = Evaluation(source, photos, fp32)
        groups = collect_groups(fp32, calibrated_tensors(fp32), photos.batches)
        calibrated = Calibrated(fp32, groups, request.recipe, source, photos)
        for graph in graphs:
            ruined = replace(calibrated, groups=_wider(groups, graph.wider), recipe=graph.recipe)
            with _weights(per_tensor=graph.one_weight_scale):
                yield graph, evaluation.quantised(graph.precision, ruined)


def _wider(groups: Groups, factor: float) -> Groups:
    def stretched(h: Histogram) -> Histogram:
        return Histogram(factor * h.low, factor * h.high, h.counts, factor * h.grid if h.grid is not None else None)

    return {group: {name: stretched(h) for name, h in found.items()} for group, found in groups.items()}


@contextmanager
def _weights(*, per_tensor: bool) -> Iterator[None]:
    per_channel = qdq.weight_scales

    def equal(values: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float32]:
        scales = per_channel(values, axis)
        return np.full_like(scales, scales.max())

    with mock.patch.object(qdq, "weight_scales", equal if per_tensor else per_channel):
        yield


if __name__ == "__main__":
    main()
