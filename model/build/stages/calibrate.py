"""Look at the float graph's inner tensors on the calibration set."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx

from model.build.split import Groups
from model.build.stage import StageWork
from model.build.stages import optimise, source
from model.errors import BuildError
from model.quantise.equalisation import equalise
from model.quantise.int8 import calibrated_tensors
from model.quantise.statistics import Histogram, collect_groups

BASE: Final = "base.onnx"
"""The float graph that is quantised: the FP32 graph, or an equalised one."""
_HISTOGRAMS: Final = "histograms.npz"


def run(work: StageWork) -> None:
    """Write the graph to quantise and the histograms of every group of photos.

    Raises:
        BuildError: a tensor holds NaN or infinity, there is nothing to calibrate on, or nothing to quantise.
    """
    model = source.load(work.earlier["source"])
    material = work.material(model)
    base = onnx.load(work.earlier["optimise"] / optimise.FP32)
    if work.request.recipe.equalise:
        base = equalise(base, material.own_batches)
        work.line("  weight ranges equalised")
    onnx.save(base, work.folder / BASE)
    try:
        groups = collect_groups(base, tensors_to_calibrate(base), material.batches, work.fraction)
    except ValueError as error:
        raise BuildError(str(error)) from error
    save(groups, work.folder)
    work.line(f"  {material.description}, {len(groups[min(groups)])} tensors")


def tensors_to_calibrate(base: onnx.ModelProto) -> tuple[str, ...]:
    """Tensors whose ranges both INT8 graphs need.

    Raises:
        BuildError: there are none.
    """
    tensors = calibrated_tensors(base)
    if not tensors:
        raise BuildError(
            "the model has nothing to quantise: no convolution, no dense layer with constant weights and no pool, so "
            "INT8 would bring it nothing; serve the original"
        )
    return tensors


def save(groups: Groups, folder: Path) -> None:
    """Write histograms of groups into `folder`."""
    names = list(groups[min(groups)])
    ends = [[[groups[g][name].low, groups[g][name].high, groups[g][name].grid] for name in names] for g in groups]
    np.savez_compressed(
        folder / _HISTOGRAMS,
        groups=np.array(list(groups)),
        names=np.array(names),
        ends=np.array(ends, np.float64),
        counts=np.array([[groups[group][name].counts for name in names] for group in groups]),
    )


def load(folder: Path) -> Groups:
    """The histograms that `save` has written."""
    with np.load(folder / _HISTOGRAMS) as saved:
        groups, names, ends, counts = (saved[part] for part in ("groups", "names", "ends", "counts"))
    return {
        int(group): {
            str(name): Histogram(float(ends[i, j, 0]), float(ends[i, j, 1]), counts[i, j], float(ends[i, j, 2]))
            for j, name in enumerate(names)
        }
        for i, group in enumerate(groups)
    }
