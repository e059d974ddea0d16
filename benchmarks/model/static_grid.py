"""What ONNX Runtime's own `quantize_static` makes of a float graph, over a grid of settings: the CPU graph's rivals."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from model.graph import feeds, images_in
from model.quantise.statistics import Batches

PERCENTILE: Final = 99.99
PERCENTILE_IMAGES: Final = 24
"""The percentile calibrator holds every inner tensor of every image at once: 100 images need many gigabytes."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One cell of the grid. Weights are int8 and have a scale a channel, and every operator that can is quantised."""

    method: str
    """`MinMax` or `Percentile`."""
    activations: str
    """`U8`, with a zero point, or `S8`."""
    reduce_range: bool
    """Whether weights have 7 bits, for CPUs whose 16-bit sums saturate."""

    @property
    def name(self) -> str:
        """For tables: `MinMax U8S8`, `Percentile U8S8 7 bit`."""
        return f"{self.method} {self.activations}S8" + (" 7 bit" if self.reduce_range else "")


GRID: Final = tuple(
    Setting(method, activations, reduce_range)
    for method, activations, reduce_range in itertools.product(("MinMax", "Percentile"), ("U8", "S8"), (False, True))
)


@dataclass(frozen=True, slots=True)
class GridGraph:
    """A setting and the graph that it gives, with the float graph's inputs and outputs."""

    setting: Setting
    model: onnx.ModelProto


def static_grid(
    model: onnx.ModelProto, batches: Batches, folder: Path, progress: Callable[[str], None] = lambda _: None
) -> Iterator[GridGraph]:
    """Each setting's graph, one after the other, calibrated on `batches`; percentiles on the first of them only.

    `folder` holds the intermediate files; `progress` is told each setting's name before it is tried.
    """
    logging.getLogger().setLevel(logging.ERROR)
    source, prepared = folder / "float.onnx", folder / "prepared.onnx"
    onnx.save(model, source)
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    for setting in GRID:
        progress(setting.name)
        target = folder / "quantised.onnx"
        percentile = setting.method == "Percentile"
        quantize_static(
            prepared,
            target,
            _Reader(model, batches, PERCENTILE_IMAGES if percentile else None),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=setting.reduce_range,
            activation_type=QuantType.QUInt8 if setting.activations == "U8" else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile if percentile else CalibrationMethod.MinMax,
            extra_options={"CalibPercentile": PERCENTILE} if percentile else {},
        )
        yield GridGraph(setting, onnx.load(target))


class _Reader(CalibrationDataReader):  # type: ignore[misc] # its module has no types
    """Hands out the batches; of a last, smaller one nothing, since the percentile calibrator takes only equal ones."""

    def __init__(self, model: onnx.ModelProto, batches: Batches, most: int | None) -> None:
        self._rest = self._equal(model, batches, most)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """The next batch by input name, None at the end."""
        return next(self._rest, None)

    @staticmethod
    def _equal(model: onnx.ModelProto, batches: Batches, most: int | None) -> Iterator[dict[str, npt.NDArray[Any]]]:
        size = done = 0
        for batch in batches():
            size = size or images_in(batch)
            if images_in(batch) < size or (most is not None and done + size > most):
                return
            done += size
            yield feeds(model, batch)
