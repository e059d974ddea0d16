"""Which instances a build calibrates on and which it judges with: each is answered by a graph that has not seen it.

Numbers only: what the instances are, `model.build.material` knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from model.quantise.statistics import Histogram, merge

FOLDS: Final = 5
MOST_JUDGED: Final = 100
"""Of a calibration set; evenly spaced ones where it has more."""
_FEWEST_FOR_FOLDS: Final = 2 * FOLDS
_ALWAYS: Final = FOLDS
"""Group of what is calibrated on and not judged with."""
_BESIDE: Final = FOLDS + 1
"""First of the groups of instances beside the calibration set."""

Groups = dict[int, dict[str, Histogram]]
"""Histograms by group and tensor, as `model.quantise.statistics.collect_groups` gives them."""
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """`calibration` instances have the numbers from 0; `beside` more, of other origin, follow.

    The artifact's own graphs are calibrated on the first alone. The graphs that answer one fifth of all that is judged
    are calibrated on everything else.
    """

    calibration: int
    beside: int

    @property
    def judged(self) -> tuple[int, ...]:
        """Numbers of what graphs are judged with: some of the calibration set, then all beside it."""
        chosen = np.linspace(0, self.calibration - 1, min(self.calibration, MOST_JUDGED)).round().astype(int)
        return (*(int(number) for number in chosen), *range(self.calibration, self.calibration + self.beside))

    @property
    def folds(self) -> int:
        """Graphs that answer in turn; 0 where there is too little to leave some out."""
        return FOLDS if len(self.judged) >= _FEWEST_FOR_FOLDS else 0

    def groups(self) -> dict[int, list[int]]:
        """What is calibrated on, in parts that are left out together."""
        if not self.folds:
            return {_ALWAYS: list(range(self.calibration))}
        members: dict[int, list[int]] = {}
        place = {number: place for place, number in enumerate(self.judged)}
        for number in range(self.calibration + self.beside):
            if number not in place:
                group = _ALWAYS
            elif number < self.calibration:
                group = place[number] % FOLDS
            else:
                group = _BESIDE + (number - self.calibration) % FOLDS
            members.setdefault(group, []).append(number)
        return dict(sorted(members.items()))

    def fold_of(self, places: Numbers) -> Numbers:
        """The fold that instances are left out of, by their places in `judged`."""
        first_beside = len(self.judged) - self.beside
        return np.where(places < first_beside, places, places - first_beside) % FOLDS

    def unseen(self, places: Numbers) -> npt.NDArray[np.bool_]:
        """Which places in `judged` the artifact's own graphs were not calibrated on; all, where there are none."""
        unseen: npt.NDArray[np.bool_] = places >= len(self.judged) - self.beside
        return unseen if unseen.any() else ~unseen


def is_own(group: int) -> bool:
    """Whether the artifact's own graphs are calibrated on a group."""
    return group < _BESIDE


def is_left_out(group: int, fold: int) -> bool:
    """Whether the graph that answers `fold` must not have seen a group."""
    return group in {fold, _BESIDE + fold}


def own_histograms(groups: Groups) -> dict[str, Histogram]:
    """Of the artifact's own graphs."""
    return _merged([histograms for group, histograms in groups.items() if is_own(group)])


def histograms_without(groups: Groups, fold: int) -> dict[str, Histogram]:
    """Of the graphs that answer `fold`."""
    return _merged([histograms for group, histograms in groups.items() if not is_left_out(group, fold)])


def _merged(groups: list[dict[str, Histogram]]) -> dict[str, Histogram]:
    return {name: merge([histograms[name] for histograms in groups]) for name in groups[0]}
