"""What a report holds. Whoever measures fills these in; the pages, the plots and the log are made from them alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from artifact.manifest import Accuracy, Manifest

MIN_P99_CALLS: Final = 200
"""Fewer timed calls hold no 99th percentile: it would be their second slowest, or the slowest."""
TOP: Final = 5
"""Labels that are shown of each answer."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where figures were measured."""

    device: str
    """Machine class, as `model.build.machine.machine_class` gives it, or a GPU's name."""
    versions: Mapping[str, str]
    """Versions of what ran, by name."""
    date: str
    """Day, `YYYY-MM-DD`."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One label of an answer. `score` is the model's own output, mostly a probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class PhotoAnswer:
    """What each row answers to one photo. The photo itself is nowhere in a report."""

    photo: str
    """Its file name."""
    label: str
    """What it shows; empty where nobody has said."""
    answers: Mapping[str, tuple[Ranked, ...]]
    """At most TOP labels, best first, by row name (`native`, `fp32`, `fp16`, `int8`, `int8-cpu`)."""


@dataclass(frozen=True, slots=True)
class Speed:
    """One row at one batch size: how fast, over which repetitions, in how much memory."""

    row: str
    """`native`, or a precision of the artifact."""
    runtime: str
    """Library with its version: `ONNX Runtime 1.32.0`."""
    device: str
    """What it ran on, as in `Machine`."""
    batch: int
    threads: int
    """Within one operator; 0 where the runtime chose."""
    samples: tuple[float, ...]
    """Images per second of each repetition; the rows' repetitions are interleaved."""
    calls: tuple[float, ...] = ()
    """Milliseconds of every single call in all repetitions."""
    preprocessing: bool = False
    """Whether a call begins with encoded photos: decode, crop and resize are timed too."""
    options: str = ""
    """What else was chosen: `XLA`."""
    memory_mib: float | None = None
    """Most memory that a fresh process held which did nothing but this row (VmHWM), at all its batch sizes."""
    size_bytes: int | None = None
    """Of the file that holds the model."""
    note: str = ""
    """What a reader must know: an FP16 row on a CPU is not representative."""

    @property
    def images_per_s(self) -> float:
        """Median of the repetitions."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Greatest minus least repetition, as a share of the median."""
        return (max(self.samples) - min(self.samples)) / self.images_per_s

    @property
    def p50_ms(self) -> float | None:
        """Median duration of a call; None where calls were not timed."""
        return statistics.median(self.calls) if self.calls else None

    @property
    def p99_ms(self) -> float | None:
        """99th percentile of a call's duration; None below MIN_P99_CALLS calls."""
        if len(self.calls) < MIN_P99_CALLS:
            return None
        return statistics.quantiles(self.calls, n=100, method="inclusive")[98]


@dataclass(frozen=True, slots=True)
class Missing:
    """A row that was asked for and could not be measured."""

    row: str
    reason: str
    """One sentence, with what to do."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to run a row that was tried, so that the best could be taken."""

    row: str
    options: str
    threads: int
    batch: int
    images_per_s: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one row answers a set of photos, next to the reference row, as serving cuts them."""

    row: str
    reference: str
    photos: int
    same_top1: float
    """Share of all photos with the reference's first label."""
    labelled: int
    top1: float | None
    """Share of the labelled photos whose first label is the right one; None without labels."""
    top5: float | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a quantised graph."""

    name: str
    operator: str
    precision: str
    """`int8`, `fp16` or `fp32`."""
    macs: int
    """Multiply-accumulate operations for one image."""
    sqnr_db: float | None = None
    """Of the layer's output in the whole quantised graph against FP32, in dB; None where it was not looked at."""
    sensitivity_db: float | None = None
    """SQNR of the model's output with this layer alone quantised, in dB: the lower, the more it harms."""
    reason: str = ""
    """Why it is not INT8, where a repair kept it float."""


@dataclass(frozen=True, slots=True)
class QuantisedGraph:
    """Layers of one quantised graph and what a repair did to it."""

    precision: str
    layers: tuple[Layer, ...]
    repairs: tuple[str, ...] = ()
    """In order, one sentence each: cross-layer equalisation, a layer kept FP16, ...; empty where none was needed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of one model measured next to each other."""

    model: str
    """What was compared: the address of an artifact or the source."""
    machine: Machine
    speed: tuple[Speed, ...] = ()
    photos: tuple[PhotoAnswer, ...] = ()
    agreement: tuple[Agreement, ...] = ()
    missing: tuple[Missing, ...] = ()
    trials: tuple[Trial, ...] = ()
    """Ways to run native TensorFlow; `speed` has the fastest at each batch size."""
    scores: str = "probability"
    """What `Ranked.score` is."""
    accuracy: tuple[Accuracy, ...] = ()
    """What the build of an artifact has measured; empty in a build's own report, whose manifest says it."""
    graphs: tuple[QuantisedGraph, ...] = ()
    """Likewise."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """All that a build run found out."""

    manifest: Manifest
    comparison: Comparison
    graphs: tuple[QuantisedGraph, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Duration of each stage, in order."""
    cached: frozenset[str] = frozenset()
    """Stages whose results an earlier run had left."""
    peak_gib: float = 0.0
    """Most memory that the build's process held."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Facts about the model and its calibration set worth a line each, by name."""


def speed_up(speed: tuple[Speed, ...], row: Speed) -> float | None:
    """Throughput of a row over the native one of the same batch size and preprocessing; None where there is none."""
    for other in speed:
        if (other.row, other.batch, other.preprocessing) == ("native", row.batch, row.preprocessing):
            return row.images_per_s / other.images_per_s
    return None
