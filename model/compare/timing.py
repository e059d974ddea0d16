"""Time rows in turns, so that a machine that slows down slows every row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from model.compare.feed import Arrays

ROUNDS: Final = 5
ROUND_S: Final = 1.0
"""Least duration of one repetition; a call that takes longer is one repetition."""
WARM_UP_CALLS: Final = 2
"""The first call plans memory and compiles, the second may still fill caches."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One cell of the comparison, for each row."""

    batch: int
    preprocessing: bool = False


class Row(Protocol):
    """Something that can be timed."""

    def time(self, setting: Setting, seconds: float) -> tuple[float, ...]:
        """Milliseconds of each call of one repetition of at least `seconds`; with 0 seconds, of one call."""
        ...


class InProcess:
    """A row in this process: `source` gives a batch its input, `run` answers it."""

    def __init__(self, run: Callable[..., object], source: Callable[[bool], Callable[[int], Arrays]]) -> None:
        self._run, self._source = run, source

    def time(self, setting: Setting, seconds: float) -> tuple[float, ...]:
        """See `Row`."""
        source = self._source(setting.preprocessing)
        durations: list[float] = []
        start = time.perf_counter()
        while not durations or time.perf_counter() - start < seconds:
            began = time.perf_counter()
            self._run(*source(setting.batch))
            durations.append(1000 * (time.perf_counter() - began))
        return tuple(durations)


def warm_up(rows: Mapping[str, Row], settings: Sequence[Setting]) -> None:
    """Run every cell until it is at its speed."""
    for row in rows.values():
        for setting in settings:
            for _ in range(WARM_UP_CALLS):
                row.time(setting, 0.0)


def interleave(
    rows: Mapping[str, Row],
    settings: Sequence[Setting],
    rounds: int = ROUNDS,
    seconds: float = ROUND_S,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[tuple[str, Setting], list[tuple[float, ...]]]:
    """Milliseconds of the calls of each repetition, by row and setting; every round visits every cell once."""
    cells = [(name, setting) for setting in settings for name in rows]
    timed: dict[tuple[str, Setting], list[tuple[float, ...]]] = {cell: [] for cell in cells}
    for number in range(rounds):
        for position, cell in enumerate(cells):
            timed[cell].append(rows[cell[0]].time(cell[1], seconds))
            progress((number + (position + 1) / len(cells)) / rounds)
    return timed


def throughputs(batch: int, repetitions: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Images per second of each repetition."""
    return tuple(1000 * batch * len(calls) / sum(calls) for calls in repetitions)
