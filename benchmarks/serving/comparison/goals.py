"""What was aimed at, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure of the results and what it should be."""

    figure: str
    said: str
    compared: Literal[">=", ">", "<="]
    target: float
    unit: str = ""
    floor: float | None = None
    """What it must reach in any case."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal with what one run measured; None: it was not measured."""

    goal: Goal
    measured: float | None

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        if self.measured is None:
            return False
        match self.goal.compared:
            case ">=":
                return self.measured >= self.goal.target
            case ">":
                return self.measured > self.goal.target
            case _:
                return self.measured <= self.goal.target

    @property
    def said(self) -> str:
        """In a line."""
        goal = self.goal
        found = "not measured" if self.measured is None else f"{self.measured:.3f}{goal.unit}"
        floor = "" if goal.floor is None else f", at least {goal.floor}"
        verdict = "met" if self.met else "MISSED"
        return f"{verdict}: {goal.said}: {found} (goal {goal.compared} {goal.target}{goal.unit}{floor})"


GOALS: Final = (
    Goal(
        "ceiling_ratio_c16", "processor time an image, the bare loop's over ours, 16 at a time", ">=", 0.80, floor=0.70
    ),
    Goal("best_peer_lower95_c16", "throughput over the best peer's, 16 at a time, lower 95 % bound", ">", 1.0),
    Goal("best_peer_lower95_c64", "throughput over the best peer's, 64 at a time, lower 95 % bound", ">", 1.0),
    Goal("p50_c1_vs_best_peer", "median latency over the best peer's, 1 at a time", "<=", 1.15),
    Goal("gateway_overhead_p50_ms", "what the gateway adds to a null model, median", "<=", 1.0, " ms"),
    Goal("overload_goodput_ratio", "answers under three times the capacity, over the peak", ">=", 0.8),
)


def verdicts(figures: Mapping[str, float | None]) -> tuple[Verdict, ...]:
    """Every goal beside one run's figures."""
    return tuple(Verdict(goal, figures.get(goal.figure)) for goal in GOALS)
