"""What a float conversion must not exceed: the exported graph answers as the original does, but for rounding."""

from __future__ import annotations

from typing import Final

import numpy as np

from artifact.manifest import GateResult
from model.errors import BuildError
from model.evaluate.metrics import Scores, same_top1, top2_margin

EXPORT_TOLERANCE: Final = 1e-4
"""Greatest difference of an exported graph's logits from the original's, as a share of the greatest logit."""


def need_numbers(output: str, original: Scores) -> None:
    """Refuse a model that answers no numbers: nothing could be compared with them.

    Raises:
        BuildError: an answer is NaN or infinite.
    """
    if not np.isfinite(original).all():
        raise BuildError(
            f"output {output} of the original itself is NaN or infinite for some inputs: look for NaN in the model's "
            "weights and in the calibration set, or leave the output out (--output-names, setting model.outputNames)"
        )


def export_gates(original: Scores, exported: Scores, *, classifier: bool = True) -> tuple[GateResult, ...]:
    """Gates of a float conversion of one output: the greatest difference and, of logits, the class but for ties."""
    extent = float(np.abs(original).max())
    difference = float(np.abs(original - exported).max()) / (extent or 1.0)
    gates = (
        GateResult(
            name="export difference",
            value=difference,
            threshold=EXPORT_TOLERANCE,
            passed=difference <= EXPORT_TOLERANCE,
        ),
    )
    if not classifier:
        return gates
    decided = top2_margin(original) > EXPORT_TOLERANCE * extent
    flips = int((decided & ~same_top1(original, exported)).sum())
    return (*gates, GateResult(name="export class changes", value=flips, threshold=0, passed=flips == 0))
