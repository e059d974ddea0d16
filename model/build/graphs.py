"""The quantised graphs of one calibration, in the forms that the artifact holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal

import onnx

from artifact.manifest import Precision
from artifact.recipe import Recipe
from artifact.signature import Form
from model.export.image_form import pixel_range, with_image_input
from model.quantise.int8 import cpu_graph, tensorrt_graph
from model.quantise.statistics import Histogram
from model.source.models import SourceModel

QuantisedPrecision = Literal["int8", "int8-cpu"]
QUANTISED: Final[tuple[QuantisedPrecision, ...]] = ("int8", "int8-cpu")
PRECISIONS: Final[tuple[Precision, ...]] = (*QUANTISED, "fp16", "fp32")


def forms_of(source: SourceModel) -> tuple[Form, ...]:
    """Forms that the artifact has graphs of."""
    return ("image", "tensor") if source.preprocessing is not None else ("tensor",)


def quantised(
    precision: QuantisedPrecision,
    base: onnx.ModelProto,
    histograms: Mapping[str, Histogram],
    *,
    recipe: Recipe,
    source: SourceModel,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """The INT8 graph, in tensor form, that `histograms` of the float graph `base` give, without bias correction."""
    if precision == "int8":
        return tensorrt_graph(base, histograms, recipe.method, keep_float)
    known = pixel_range(source.preprocessing) if source.preprocessing is not None else None
    return cpu_graph(base, histograms, recipe, known, keep_float)


def in_form(graph: onnx.ModelProto, form: Form, source: SourceModel) -> onnx.ModelProto:
    """A graph in tensor form as clients of `form` reach it."""
    if form == "tensor" or source.preprocessing is None:
        return graph
    return with_image_input(graph, source.preprocessing, source.layout or "nhwc")
