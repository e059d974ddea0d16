"""A quick throughput table: enough to see what INT8 bought on this machine, not a benchmark."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from artifact.manifest import SpeedRow

BATCHES: Final = (1, 8)
ROUNDS: Final = 5
"""Rounds are interleaved, so that a machine that slows down slows every row."""
_ROUND_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run the model: `run` takes float32 or uint8 images [batch, height, width, 3], like `images`."""

    precision: str
    runtime: str
    run: Callable[[npt.NDArray[Any]], object]
    images: npt.NDArray[Any]


def measure(contenders: tuple[Contender, ...]) -> tuple[SpeedRow, ...]:
    """Median images per second of each contender at each batch size over ROUNDS interleaved rounds."""
    cells: Mapping[tuple[int, int], list[float]] = {(i, b): [] for b in BATCHES for i in range(len(contenders))}
    for number, batch in cells:
        contenders[number].run(_batch(contenders[number], batch))
    for _ in range(ROUNDS):
        for (number, batch), samples in cells.items():
            samples.append(_throughput(contenders[number], batch))
    return tuple(
        SpeedRow(
            precision=contenders[number].precision,
            runtime=contenders[number].runtime,
            batch=batch,
            images_per_s=round(statistics.median(samples), 1),
            repetitions=ROUNDS,
        )
        for (number, batch), samples in cells.items()
    )


def _throughput(contender: Contender, batch: int) -> float:
    images = _batch(contender, batch)
    start, runs = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < _ROUND_S or not runs:
        contender.run(images)
        runs += 1
    return runs * batch / elapsed


def _batch(contender: Contender, batch: int) -> npt.NDArray[Any]:
    return np.resize(contender.images, (batch, *contender.images.shape[1:]))
