"""A calibrated float graph, and the quantised graphs that it gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from artifact.recipe import Recipe
from model.build.graphs import QuantisedPrecision, quantised
from model.build.material import Material
from model.build.split import Groups, histograms_without, own_histograms
from model.quantise.bias_correction import mean_errors, shift_biases
from model.source.models import SourceModel


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A float graph with its histograms: what quantised graphs are made from, the folds' as well as the artifact's."""

    base: onnx.ModelProto
    groups: Groups
    recipe: Recipe
    source: SourceModel
    material: Material

    _errors: dict[tuple[QuantisedPrecision, int | None], Mapping[str, npt.NDArray[np.float64]]] = field(
        default_factory=dict, repr=False
    )
    """Mean errors of layers, by precision and fold: all graphs of one calibration have the same."""

    def graph(self, precision: QuantisedPrecision, keep_float: Collection[str] = ()) -> onnx.ModelProto:
        """The artifact's graph, in tensor form."""
        return self._graph(precision, None, keep_float)

    def fold_graph(self, precision: QuantisedPrecision, fold: int, keep_float: Collection[str] = ()) -> onnx.ModelProto:
        """The graph that answers what `fold` leaves out, in tensor form."""
        return self._graph(precision, fold, keep_float)

    def _graph(self, precision: QuantisedPrecision, fold: int | None, keep_float: Collection[str]) -> onnx.ModelProto:
        histograms = own_histograms(self.groups) if fold is None else histograms_without(self.groups, fold)

        def uncorrected(kept: Collection[str]) -> onnx.ModelProto:
            return quantised(precision, self.base, histograms, recipe=self.recipe, source=self.source, keep_float=kept)

        if not self.recipe.bias_correction:
            return uncorrected(keep_float)
        if (precision, fold) not in self._errors:
            batches = self.material.own_batches if fold is None else lambda: self.material.batches_without(fold)
            self._errors[precision, fold] = mean_errors(self.base, uncorrected(()), batches)
        return shift_biases(uncorrected(keep_float), self._errors[precision, fold])
