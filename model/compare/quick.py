"""The comparison's quick form, which every build runs: in one process, two batch sizes, TensorFlow as it comes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from artifact.manifest import Precision
from artifact.signature import Form, Preprocessing, TensorSpec
from model.build.machine import machine_class
from model.compare.feed import Feed, random_tensors
from model.compare.runners import NOT_REPRESENTATIVE, OnnxRuntimeRunner, Runner, TensorFlowGraphRunner
from model.compare.timing import InProcess, Setting, interleave, throughputs, warm_up
from model.evaluate.metrics import softmax
from model.export.frozen import FrozenSignature
from model.report.content import TOP, Ranked, Speed
from model.source.models import Layout

BATCHES: Final = (1, 8)
ROUNDS: Final = 5
ROUND_S: Final = 0.2
_NATIVE: Final = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickModel:
    """What is compared. Without `preprocessing` the rows are fed made-up tensors of the shapes of `inputs`."""

    native: FrozenSignature
    output: str
    """Which output every row answers."""
    graphs: Mapping[Precision, Path]
    """ONNX files, all of `form`."""
    form: Form
    inputs: tuple[TensorSpec, ...]
    """Of the tensor form."""
    photos: tuple[bytes, ...] = ()
    preprocessing: Preprocessing | None = None
    layout: Layout | None = None
    fixed_batch: int | None = None


def quick_speed(model: QuickModel, progress: Callable[[float], None] = lambda _: None) -> tuple[Speed, ...]:
    """Throughput of native TensorFlow and of each graph, without preprocessing."""
    threads, device = len(os.sched_getaffinity(0)), machine_class()
    tensors = () if model.preprocessing else random_tensors(model.inputs, 1)
    runners: dict[str, Runner] = {_NATIVE: TensorFlowGraphRunner(model.native, model.output)}
    runners |= {name: OnnxRuntimeRunner(path, model.output, threads) for name, path in model.graphs.items()}
    dtype = model.inputs[0].dtype
    native_feed = Feed("tensor", model.photos, model.preprocessing, model.layout, dtype, tensors)
    graph_feed = Feed(model.form, model.photos, model.preprocessing, model.layout, dtype, tensors)
    rows = {
        name: InProcess(runner, (native_feed if name == _NATIVE else graph_feed).source)
        for name, runner in runners.items()
    }
    settings = [Setting(batch) for batch in ((model.fixed_batch,) if model.fixed_batch else BATCHES)]
    warm_up(rows, settings)
    timed = interleave(rows, settings, ROUNDS, ROUND_S, progress)
    return tuple(
        Speed(
            row=name,
            runtime=runners[name].runtime,
            device=device,
            batch=setting.batch,
            threads=threads,
            samples=throughputs(setting.batch, repetitions),
            calls=tuple(call for repetition in repetitions for call in repetition),
            options="XLA off" if name == _NATIVE else "",
            size_bytes=None if name == _NATIVE else model.graphs[name].stat().st_size,  # type: ignore[index]
            note=NOT_REPRESENTATIVE if name == "fp16" else "",
        )
        for (name, setting), repetitions in timed.items()
    )


def native_answers(
    model: QuickModel, photos: Iterable[bytes], label: Callable[[int], str]
) -> tuple[tuple[Ranked, ...], ...]:
    """What native TensorFlow answers to each photo: the TOP most probable labels, best first."""
    run = model.native.runner(model.output, before_softmax=True)
    feed = Feed("tensor", (), model.preprocessing, model.layout, model.inputs[0].dtype)
    answers = []
    for photo in photos:
        probabilities = softmax(run(*feed.of([photo] * (model.fixed_batch or 1)))[:1])[0]
        best = probabilities.argsort()[::-1][:TOP]
        answers.append(tuple(Ranked(label(int(number)), round(float(probabilities[number]), 6)) for number in best))
    return tuple(answers)
