"""What was aimed at, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

CALIBRATION_RATIO: Final = "calibration_rss_ratio_500_to_100"


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure of the results and what it should be. `why_missed` is what is known where it was not reached."""

    figure: str
    said: str
    compared: Literal[">=", "<="]
    target: float | str
    """A number, or the name of another figure."""
    unit: str = ""
    why_missed: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal with the figures of one run."""

    goal: Goal
    measured: float
    target: float

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.measured >= self.target if self.goal.compared == ">=" else self.measured <= self.target


GOALS: Final = (
    Goal("speedup_int8_over_ort_fp32_b1", "INT8 over ONNX Runtime FP32, batch 1", ">=", 1.7, " x"),
    Goal("speedup_int8_over_native_tf_b1", "INT8 over the best native TensorFlow, batch 1", ">=", 3.5, " x"),
    Goal(
        "static_grid_own_agreement",
        "agreement of the CPU graph, next to the best of quantize_static's grid on the same images",
        ">=",
        "static_grid_best_agreement",
    ),
    Goal(
        "static_grid_own_sqnr_db",
        "SQNR of the CPU graph, next to the best of quantize_static's grid on the same images",
        ">=",
        "static_grid_best_sqnr_db",
        " dB",
    ),
    Goal(
        "static_grid_speed_ratio",
        "speed of the CPU graph over the fastest of the grid's most accurate graphs, batch 1",
        ">=",
        0.95,
        " x",
    ),
    Goal(CALIBRATION_RATIO, "memory of a calibration over 500 images, over that of 100", "<=", 1.15, " x"),
    Goal("build_seconds", "build of EfficientNet-Lite0", "<=", 180.0, " s"),
    Goal("build_peak_gib", "memory of that build", "<=", 2.5, " GiB"),
)


def verdicts(figures: Mapping[str, float]) -> tuple[Verdict, ...]:
    """Every goal beside the figures of one run."""
    return tuple(
        Verdict(goal, figures[goal.figure], figures[goal.target] if isinstance(goal.target, str) else goal.target)
        for goal in GOALS
    )
