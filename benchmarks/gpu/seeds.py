"""Networks whose weights are seeds: a 100 MB graph travels as 200 kB and is the same on every machine.

Needs NumPy and onnx alone, so that the GPU machine can expand what another one has written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

FloatArray = npt.NDArray[np.float32]

SMALLEST: Final = 4096
"""Constants with fewer elements travel as they are."""
GRID: Final = "_grid"
"""Ending of a weight that the quantiser has rounded to its integers' grid; its scales end in `_scale`."""
_MAX_ERROR: Final = 1e-5
"""Of an expanded weight, as a share of its greatest value."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """A kernel of the network as Keras holds it: standard normal values of `seed` [..., output channels]."""

    seed: int
    shape: tuple[int, ...]

    def values(self) -> FloatArray:
        """The kernel; NumPy promises the same stream of RandomState in every version."""
        drawn: FloatArray = np.random.RandomState(self.seed).standard_normal(self.shape).astype(np.float32)
        return drawn

    def in_onnx_order(self) -> FloatArray:
        """[output, input, height, width] of a convolution's [height, width, input, output]; a matrix as it is."""
        values = self.values()
        return values.transpose(3, 2, 0, 1) if values.ndim == 4 else values


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight [output channels, ...] or matrix [..., output channels]: a kernel times one factor an output channel."""

    kernel: Seeded
    factor: FloatArray
    scale: FloatArray | None = None
    """Of its integers, where the quantiser has rounded it."""

    def values(self) -> FloatArray:
        """The weight as the graph holds it."""
        standard = self.kernel.in_onnx_order()
        values = standard * _spread(self.factor, standard.ndim)
        if self.scale is not None:
            steps = _spread(self.scale, standard.ndim)
            values = np.clip(np.round(values / steps), -127, 127) * steps
        return np.ascontiguousarray(values, np.float32)


def weights_of(model: onnx.ModelProto, kernels: list[Seeded]) -> dict[str, Weight]:
    """How every great weight of a float graph follows from the kernels.

    Raises:
        ValueError: a weight is no kernel times one factor an output channel.
    """
    # Many kernels share a shape; each is drawn once.
    drawn = [(kernel, kernel.in_onnx_order()) for kernel in kernels]
    return {name: _weight(name, values, drawn) for name, values in _great(model)}


def strip(model: onnx.ModelProto, weights: dict[str, Weight], skeleton: Path) -> None:
    """Write a float graph, or the quantised graph of it, without its great weights; beside it (.npz) how to make them.

    `weights` are those of the float graph.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    recipe = {}
    for name, _ in _great(model):
        weight = weights[name.removesuffix(GRID)]
        scale = numpy_helper.to_array(constants[f"{name.removesuffix(GRID)}_scale"]) if name.endswith(GRID) else None
        recipe[name] = Weight(weight.kernel, weight.factor, scale)
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.graph.initializer[:]
    kept.graph.initializer.extend(tensor for name, tensor in constants.items() if name not in recipe)
    onnx.save(kept, str(skeleton))
    made = list(recipe.values())
    arrays: dict[str, npt.NDArray[Any]] = {
        "names": np.array(list(recipe)),
        "seeds": np.array([weight.kernel.seed for weight in made]),
        **{f"shape{i}": np.array(weight.kernel.shape) for i, weight in enumerate(made)},
        **{f"factor{i}": weight.factor for i, weight in enumerate(made)},
        **{f"scale{i}": weight.scale for i, weight in enumerate(made) if weight.scale is not None},
    }
    np.savez_compressed(skeleton.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]


def expand(skeleton: Path) -> onnx.ModelProto:
    """The whole model of a skeleton that `strip` wrote."""
    model = onnx.load(str(skeleton))
    with np.load(skeleton.with_suffix(".npz")) as recipe:
        for i, name in enumerate(recipe["names"]):
            kernel = Seeded(int(recipe["seeds"][i]), tuple(int(size) for size in recipe[f"shape{i}"]))
            scale = recipe.get(f"scale{i}")
            values = Weight(kernel, recipe[f"factor{i}"], scale).values()
            model.graph.initializer.append(numpy_helper.from_array(values, str(name)))
    onnx.checker.check_model(model)
    return model


def _great(model: onnx.ModelProto) -> list[tuple[str, FloatArray]]:
    arrays = ((tensor.name, numpy_helper.to_array(tensor)) for tensor in model.graph.initializer)
    return [(name, values) for name, values in arrays if values.size >= SMALLEST and values.dtype == np.float32]


def _weight(name: str, values: FloatArray, drawn: list[tuple[Seeded, FloatArray]]) -> Weight:
    for kernel, standard in drawn:
        if standard.shape != values.shape:
            continue
        axis = _output_axis(standard.ndim)
        others = tuple(position for position in range(standard.ndim) if position != axis)
        factor = ((values * standard).sum(others) / (standard**2).sum(others)).astype(np.float32)
        error = np.abs(standard * _spread(factor, standard.ndim) - values).max()
        if error <= np.abs(values).max() * _MAX_ERROR:
            return Weight(kernel, factor)
    raise ValueError(f"{name} {values.shape} is no kernel times one factor an output channel")


def _output_axis(rank: int) -> int:
    return 0 if rank == 4 else rank - 1


def _spread(factor: FloatArray, rank: int) -> FloatArray:
    return factor.reshape([-1 if position == _output_axis(rank) else 1 for position in range(rank)])
