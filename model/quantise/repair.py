"""Mixed precision that repairs itself: what to do when a quantised graph's answers are too far off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import onnx

from artifact.manifest import GateResult
from model.quantise.sensitivity import LayerSensitivity, Quantise, output_sqnr, sensitivity
from model.quantise.statistics import Batches

FLOAT_BUDGET: Final = 0.10
"""Greatest share of a model's multiply-accumulate operations that a repair takes back from INT8."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A float graph and how it is quantised."""

    model: onnx.ModelProto
    quantise: Quantise
    equalised: bool = False


Gate = Callable[[Candidate, frozenset[str]], Sequence[GateResult]]
"""Judges a candidate quantised with the named layers left float."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What came of it. `candidate.quantise(kept_float)` is the graph that `gates` were measured on."""

    candidate: Candidate
    kept_float: tuple[str, ...]
    """Layers that are not INT8, the most sensitive first."""
    float_share: float
    """Their share of the model's multiply-accumulate operations."""
    gates: tuple[GateResult, ...]
    steps: tuple[str, ...]
    """What was done and why, one sentence a step; empty where the gate passed at once."""
    sensitivity: tuple[LayerSensitivity, ...] = ()
    """Of every layer of the candidate, where it had to be measured."""

    @property
    def passed(self) -> bool:
        """Whether all gates hold now."""
        return all(gate.passed for gate in self.gates)


def repair(
    candidate: Candidate,
    gate: Gate,
    batches: Batches,
    equalise: Callable[[], Candidate] | None = None,
    *,
    budget: float = FLOAT_BUDGET,
    kept_as: str = "FP16",
    progress: Callable[[float], None] = lambda _: None,
    threads: int = 0,
) -> Repaired:
    """Make a candidate pass `gate`: equalise it, then keep the fewest of its most sensitive layers float.

    `equalise` makes the equalised candidate, None where that was done or is not wanted; it is kept if it is the
    better one. Layers are kept in the order of their sensitivity, measured on `batches` (two or three dozen
    images), as long as they need at most `budget` of all multiply-accumulate operations; one that does not fit any more
    is passed over. `kept_as` names their precision in the sentences. What still fails is returned with `passed` False.
    """
    gates = tuple(gate(candidate, frozenset()))
    if _pass(gates):
        return Repaired(candidate, (), 0.0, gates, ())
    steps = [f"all layers INT8: {_failures(gates)}"]
    if equalise is not None:
        before = output_sqnr(candidate.model, candidate.quantise(()), batches, threads)
        equalised = equalise()
        after = output_sqnr(equalised.model, equalised.quantise(()), batches, threads)
        if after > before:
            candidate, gates = equalised, tuple(gate(equalised, frozenset()))
            steps.append(f"cross-layer equalisation, SQNR {before:.1f} -> {after:.1f} dB: {_failures(gates)}")
            if _pass(gates):
                return Repaired(candidate, (), 0.0, gates, tuple(steps))
        else:
            steps.append(f"cross-layer equalisation is left out: SQNR {before:.1f} -> {after:.1f} dB")
    measured = sensitivity(candidate.model, candidate.quantise, batches, progress, threads)
    chosen = _affordable(measured, budget)
    total = sum(layer.macs for layer in measured)
    tried: dict[int, tuple[GateResult, ...]] = {0: gates}

    def passes(count: int) -> bool:
        if count not in tried:
            tried[count] = tuple(gate(candidate, frozenset(layer.name for layer in chosen[:count])))
        return _pass(tried[count])

    kept = chosen[: _fewest(len(chosen), passes)]
    gates = tried[len(kept)]
    steps += [
        f"{layer.name} ({layer.operator}) stays {kept_as}: alone in INT8 it leaves the output {layer.sqnr_db:.1f} dB; "
        f"{_share(layer.macs, total):.1%} of the operations"
        for layer in kept
    ]
    taken = _share(sum(layer.macs for layer in kept), total)
    steps.append(f"{len(kept)} of {len(measured)} layers, {taken:.1%} of the operations {kept_as}: {_failures(gates)}")
    return Repaired(candidate, tuple(layer.name for layer in kept), taken, gates, tuple(steps), measured)


def _affordable(measured: Sequence[LayerSensitivity], budget: float) -> list[LayerSensitivity]:
    """The most sensitive layers first, as many as fit into the budget together."""
    left = budget * sum(layer.macs for layer in measured)
    chosen = []
    for layer in sorted(measured, key=lambda layer: layer.sqnr_db):
        if layer.macs <= left:
            left -= layer.macs
            chosen.append(layer)
    return chosen


def _fewest(count: int, passes: Callable[[int], bool]) -> int:
    """Least number up to `count` that passes, or `count` where that does not, in few trials: doubled, then bisected."""
    failing, passing = 0, min(1, count)
    while passing < count and not passes(passing):
        failing, passing = passing, min(2 * passing, count)
    if not passes(passing):
        return count
    while passing - failing > 1:
        middle = (failing + passing) // 2
        failing, passing = (failing, middle) if passes(middle) else (middle, passing)
    return passing


def _pass(gates: Sequence[GateResult]) -> bool:
    return all(gate.passed for gate in gates)


def _failures(gates: Sequence[GateResult]) -> str:
    failed = [f"{gate.name} {gate.value:.3g} (threshold {gate.threshold:g})" for gate in gates if not gate.passed]
    return f"fails {', '.join(failed)}" if failed else "passes"


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0
