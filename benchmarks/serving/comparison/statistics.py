"""Ratios of rounds: both sides of one ran within seconds of each other, so that the machine's drift cancels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_T_95: Final = {
    1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833, 10: 1.812,
    11: 1.796, 12: 1.782, 13: 1.771, 14: 1.761, 15: 1.753, 16: 1.746, 17: 1.740, 18: 1.734, 19: 1.729,
}  # fmt: skip
"""Student's t, one-sided 0.95, by degrees of freedom (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2)."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two series of rounds."""

    median: float
    lower_95: float
    """With 95 % confidence the ratio is above this: t-interval over the logarithms of the rounds' ratios."""


def paired(one: Sequence[float], other: Sequence[float]) -> Ratio:
    """`one` over `other`, round by round; both are above zero, and there are 2 to 20 rounds."""
    logs = [math.log(a / b) for a, b in zip(one, other, strict=True)]
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(statistics.median(logs)), math.exp(statistics.fmean(logs) - _T_95[len(logs) - 1] * error))
