"""Judge a quantised precision; where a gate fails, equalise it, then keep its most sensitive layers in floats."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Literal

import onnx

from artifact.manifest import Accuracy, GateResult
from model.build.calibrated import Calibrated
from model.build.evaluation import Evaluation, Progress
from model.build.graphs import QuantisedPrecision
from model.evaluate.answers import Inputs
from model.quantise.equalisation import equalise
from model.quantise.int8 import calibrated_tensors
from model.quantise.repair import Candidate, repair
from model.quantise.sensitivity import LayerSensitivity, layer_sqnr, sensitivity
from model.quantise.statistics import collect_groups
from model.report.content import Layer, QuantisedGraph

FLOAT: Final[dict[QuantisedPrecision, Literal["fp16", "fp32"]]] = {"int8": "fp16", "int8-cpu": "fp32"}
"""What a layer is that stays float: TensorRT runs it in FP16, ONNX Runtime in FP32."""
_PROBES: Final = 2
"""Batches of the calibration set that layers are ranked on."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A precision as it goes into the artifact."""

    accuracy: Accuracy
    candidate: Candidate
    repairs: tuple[str, ...]
    """What was done, one sentence a step; empty where the gates held at once."""
    sensitivity: tuple[LayerSensitivity, ...]
    """Of every layer, where a repair has measured it."""

    @property
    def graph(self) -> onnx.ModelProto:
        """The quantised graph, in tensor form."""
        return self.candidate.quantise(self.accuracy.kept_float)


class Mender:
    """Judges one precision of a build, as often as its repair needs."""

    def __init__(
        self,
        precision: QuantisedPrecision,
        calibrated: Calibrated,
        evaluation: Evaluation,
        progress: Progress = lambda _: None,
    ) -> None:
        self._precision, self._evaluation, self._progress = precision, evaluation, progress
        self._calibrated = {calibrated.recipe.equalise: calibrated}
        self._first = self._candidate(calibrated.recipe.equalise)

    def judge(self, *, may_repair: bool) -> Mended:
        """Accuracy of the precision, after a repair if one is needed and allowed; its gates may fail all the same."""
        if not may_repair:
            return Mended(self._accuracy(self._first, ()), self._first, (), ())
        last: dict[str, Accuracy] = {}

        def gate(candidate: Candidate, kept: frozenset[str]) -> tuple[GateResult, ...]:
            last["row"] = self._accuracy(candidate, kept)
            return last["row"].gates

        equalised = None if self._first.equalised else self._equalised
        done = repair(self._first, gate, self._probes, equalised, kept_as=FLOAT[self._precision].upper())
        row = last["row"] if not done.steps else self._accuracy(done.candidate, done.kept_float)
        return Mended(row, done.candidate, done.steps, done.sensitivity)

    def layers(self, mended: Mended, progress: Progress = lambda _: None) -> QuantisedGraph:
        """What quantising each layer costs."""
        model, quantise = mended.candidate.model, mended.candidate.quantise
        measured = mended.sensitivity or sensitivity(model, quantise, self._probes, progress)
        noise = layer_sqnr(model, mended.graph, self._probes)
        kept = mended.accuracy.kept_float
        layers = tuple(
            Layer(
                name=layer.name,
                operator=layer.operator,
                precision=FLOAT[self._precision] if layer.name in kept else "int8",
                macs=layer.macs,
                sqnr_db=_finite(noise.get(layer.name)),
                sensitivity_db=_finite(layer.sqnr_db),
                reason="kept float by a repair: among the most sensitive layers" if layer.name in kept else "",
            )
            for layer in measured
        )
        return QuantisedGraph(self._precision, layers, mended.repairs)

    def _candidate(self, equalised: bool) -> Candidate:
        calibrated = self._calibrated[equalised]
        return Candidate(calibrated.base, lambda keep: calibrated.graph(self._precision, keep), equalised)

    def _equalised(self) -> Candidate:
        calibrated = self._calibrated[False]
        base = equalise(calibrated.base, calibrated.material.own_batches)
        groups = collect_groups(base, calibrated_tensors(base), calibrated.material.batches)
        self._calibrated[True] = replace(calibrated, base=base, groups=groups, _errors={})
        return self._candidate(equalised=True)

    def _accuracy(self, candidate: Candidate, kept: Collection[str]) -> Accuracy:
        calibrated = self._calibrated[candidate.equalised]
        row = self._evaluation.quantised(self._precision, calibrated, kept, self._progress)
        facts = {
            "equalised": candidate.equalised,
            "bias_corrected": calibrated.recipe.bias_correction,
            "kept_float": tuple(kept),
        }
        return row.model_copy(update=facts)

    def _probes(self) -> Iterator[Inputs]:
        return islice(self._calibrated[self._first.equalised].material.own_batches(), _PROBES)


def _finite(decibel: float | None) -> float | None:
    return decibel if decibel is not None and abs(decibel) != float("inf") else None
