"""One contender under one load, and all of them in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.serving.comparison.ceiling import Ceiling
from benchmarks.serving.comparison.cells import Cell
from benchmarks.serving.comparison.contenders import Contender
from benchmarks.serving.generator import generate
from client.load import percentile

CEILING: Final = "ceiling"
_EXPECTED: Final = {"200", "429"}
"""One that refuses what it cannot do soon is not at fault: only its answers count."""


class ComparisonError(Exception):
    """A contender does not answer as it should: its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one contender."""

    images_per_s: float
    cpu_ms: float
    """Processor time an image, of all processes of the contender."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    generator_share: float = 0.0
    """Of one core, that the generator took meanwhile."""
    refused: float = 0.0
    """Share of the requests that were answered with 429."""


Samples = dict[tuple[str, str], list[Sample]]
"""By cell and contender: one a round."""


def ask(contender: Contender, cell: Cell, seconds: float) -> Sample:
    """Load one contender.

    Raises:
        ComparisonError: it answers wrongly, or not at all.
    """
    before = contender.cpu_seconds()
    load = generate(
        contender.host,
        cell.bodies,
        seconds,
        concurrency=cell.concurrency,
        port=contender.port,
        classes=cell.classes,
    )
    cpu_s = contender.cpu_seconds() - before
    if not load.good_s or load.answers.keys() - _EXPECTED:
        raise ComparisonError(f"{contender.name} ({contender.setting}), {cell.said}: answered {load.answers}")
    return Sample(
        images_per_s=load.closed_loop_rate * cell.images,
        cpu_ms=1000 * cpu_s / (len(load.good_s) * cell.images),
        p50_ms=1000 * percentile(load.good_s, 0.5),
        p99_ms=1000 * percentile(load.good_s, 0.99),
        generator_share=load.cpu_s / load.elapsed_s,
        refused=load.answers.get("429", 0) / sum(load.answers.values()),
    )


def work(ceiling: Ceiling, seconds: float) -> Sample:
    """Run the loop without a server."""
    done = ceiling.work(seconds)
    return Sample(images_per_s=done.images / done.seconds, cpu_ms=1000 * done.cpu_s / done.images)


@contextmanager
def alone(contender: Contender) -> Iterator[None]:
    """It runs while the block does; before and after, it is held."""
    contender.release()
    try:
        yield
    finally:
        contender.hold()


def in_turns(
    cells: Mapping[str, Cell],
    field: Mapping[str, Mapping[str, Callable[[float], Sample]]],
    rounds: int,
    seconds: float,
    progress: Callable[[str], None],
) -> Samples:
    """Every contender of every cell, round by round. The order turns, so that none always follows the same other."""
    samples: Samples = {}
    for number in range(rounds):
        for name, runs in field.items():
            order = list(runs)
            order = order[number % len(order) :] + order[: number % len(order)]
            for contender in order:
                samples.setdefault((name, contender), []).append(runs[contender](seconds))
            rates = ", ".join(f"{who} {samples[name, who][-1].images_per_s:.0f}" for who in runs)
            progress(f"round {number + 1} of {rounds}, {cells[name].said}: images/s {rates}")
    return samples
