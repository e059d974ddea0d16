"""The comparison: every row in a process of its own, timed in turns, then asked for its answers and its memory."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from artifact.manifest import Precision, graph_path
from artifact.signature import Form
from model.build.machine import machine_class, tool_versions
from model.build.progress import Reporter
from model.compare.device import DeviceChoice, gpu_device
from model.compare.feed import check_photos
from model.compare.process import RowProcess
from model.compare.runners import NOT_REPRESENTATIVE, RowSpec
from model.compare.subject import Subject
from model.compare.timing import ROUND_S, ROUNDS, WARM_UP_CALLS, Row, Setting, interleave, throughputs
from model.compare.worker import Start
from model.errors import BuildError
from model.report.content import Agreement, Comparison, Machine, Missing, PhotoAnswer, Ranked, Speed, Trial
from model.report.reading import reported_graphs
from model.source.photos import LabelledPhoto, calibration_photos, evaluation_photos

AskedPrecision = Literal["native", "fp32", "fp16", "int8"]
PRECISIONS: Final[tuple[AskedPrecision, ...]] = get_args(AskedPrecision)
BATCHES: Final = (1, 8, 32, 128)
_NATIVE: Final = "native"
_HOPELESS: Final = 0.5
"""A way to run TensorFlow below this share of the best one at the smallest batch is not tried at larger ones."""
_TRIAL_S: Final = 0.5
_Best = tuple[tuple[int, float], ...]
"""Classes and scores of the best answers to one photo."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    precisions: tuple[AskedPrecision, ...] = PRECISIONS
    photos: tuple[LabelledPhoto | Path, ...] = ()
    """Photos whose answers are shown; by default the labelled ones of the build."""
    batches: tuple[int, ...] = BATCHES
    rounds: int = ROUNDS
    seconds: float = ROUND_S
    device: DeviceChoice = "auto"


def compare(subject: Subject, plan: Plan, logs: Path, reporter: Reporter) -> Comparison:
    """Measure the rows that `plan` asks for on this machine. Processes write what they say to files below `logs`.

    Raises:
        BuildError: no row at all can be run, or photos are named that the model cannot be fed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    session = _Session(subject, plan, logs, reporter)
    with ExitStack() as running:
        return session.run(running)


class _Session:
    def __init__(self, subject: Subject, plan: Plan, logs: Path, reporter: Reporter) -> None:
        self._subject, self._plan, self._logs, self._reporter = subject, plan, logs, reporter
        self._gpu = gpu_device(subject.artifact, plan.device)
        self._device = self._gpu.gpu.name if self._gpu else machine_class()
        self._cores = len(os.sched_getaffinity(0))
        self._missing: list[Missing] = []
        self._trials: list[Trial] = []
        self._graphs = reported_graphs(subject.artifact.path)
        fixed = subject.fixed_batch
        self._batches = (fixed,) if fixed else plan.batches
        if fixed and plan.batches != (fixed,):
            reporter.line(f"  the model takes {fixed} images at once, so that is the only batch size")
        _check_photos(subject, plan.photos)
        self._photos = plan.photos or _packaged_photos(subject)
        if plan.photos and not subject.classifies:
            self._missing.append(Missing("labels of photos", "the model has no output that is a class"))

    def run(self, running: ExitStack) -> Comparison:
        specs = list(self._graph_specs())
        rows: dict[str, RowProcess] = {}
        chosen: dict[str, RowSpec] = {}
        native = self._best_native(running) if _NATIVE in self._plan.precisions else {}
        for spec in specs:
            try:
                rows[spec.row] = running.enter_context(self._start(spec))
                chosen[spec.row] = spec
            except BuildError as error:
                self._missing.append(Missing(spec.row, str(error)))
        if not rows and not native:
            raise BuildError(f"nothing can be compared: {'; '.join(f'{m.row}: {m.reason}' for m in self._missing)}")
        speed = self._speed(native, rows, chosen)
        if native:
            rows = {_NATIVE: next(iter(native.values()))[1], **rows}
        photos, agreement = self._answers(rows)
        return Comparison(
            model=self._subject.name,
            machine=Machine(self._device, tool_versions(), dt.datetime.now(tz=dt.UTC).date().isoformat()),
            speed=speed,
            photos=photos,
            agreement=agreement,
            missing=tuple(self._missing),
            trials=tuple(self._trials),
            scores="model's own score",
            accuracy=self._subject.artifact.manifest.accuracy,
            graphs=self._graphs,
        )

    def _graph_specs(self) -> Iterator[RowSpec]:
        """What runs each precision: a TensorRT plan on a GPU, else the graph for a CPU."""
        artifact, form = self._subject.artifact, self._subject.signature.form
        for precision in self._plan.precisions:
            if precision == _NATIVE:
                continue
            row: Precision
            if self._gpu:
                row, name = precision, f"{self._gpu.plan.folder}/{precision}.{form}.plan"
            else:
                row = "int8-cpu" if precision == "int8" else precision
                name = graph_path(row, form)
            if name not in artifact.manifest.files:
                self._missing.append(Missing(row, f"the artifact has no {name}"))
                continue
            yield RowSpec(
                row=row,
                kind="tensorrt" if self._gpu else "onnxruntime",
                model=(artifact.path / name).resolve(),
                output=self._subject.output,
                threads=self._cores,
                on_gpu=self._gpu is not None,
                note=NOT_REPRESENTATIVE if precision == "fp16" and not self._gpu else "",
            )

    def _start(self, spec: RowSpec) -> RowProcess:
        signature = self._subject.signature
        native = self._subject.native
        on_tensors = spec.kind == "tensorflow"
        form: Form = "tensor" if on_tensors else signature.form
        start = Start(
            spec=spec,
            form=form,
            photos=tuple(_path(photo).resolve() for photo in self._photos),
            preprocessing=signature.preprocessing,
            layout=native.layout if on_tensors and native is not None else "nhwc",
            inputs=self._subject.inputs,
            fixed_batch=self._subject.fixed_batch,
        )
        suffix = f"-{'xla' if spec.xla else 'plain'}-{spec.threads}" if on_tensors else ""
        return RowProcess(start, self._logs / f"{spec.row}{suffix}.log")

    def _best_native(self, running: ExitStack) -> dict[int, tuple[RowSpec, RowProcess]]:
        """The fastest of XLA or not and few or many threads, at each batch size; the rest of the processes end."""
        native = self._subject.native
        if native is None:
            self._missing.append(Missing(_NATIVE, self._subject.native_missing))
            return {}
        ways: dict[RowSpec, RowProcess] = {}
        for xla in (False, True):
            for threads in sorted({1, self._cores}):
                spec = RowSpec(
                    row=_NATIVE,
                    kind="tensorflow",
                    model=native.folder.resolve(),
                    output=native.output,
                    threads=threads,
                    xla=xla,
                    on_gpu=self._gpu is not None,
                )
                self._reporter.line(f"  trying TensorFlow, {spec.options}, {threads} threads")
                try:
                    ways[spec] = running.enter_context(self._start(spec))
                except BuildError as error:
                    self._missing.append(Missing(f"{_NATIVE}, {spec.options}", str(error)))
        return self._fastest(ways)

    def _fastest(self, ways: dict[RowSpec, RowProcess]) -> dict[int, tuple[RowSpec, RowProcess]]:
        best: dict[int, tuple[RowSpec, RowProcess]] = {}
        hopeful = dict(ways)
        for batch in sorted(self._batches):
            rates = {}
            for spec, process in list(hopeful.items()):
                try:
                    rates[spec] = self._trial(spec, process, batch)
                except BuildError as error:
                    self._missing.append(Missing(f"{_NATIVE}, {spec.options}, batch {batch}", str(error)))
                    del hopeful[spec]
            if not rates:
                break
            winner = max(rates, key=lambda spec: rates[spec])
            best[batch] = (winner, ways[winner])
            if batch == min(self._batches):
                hopeful = {spec: ways[spec] for spec, rate in rates.items() if rate >= _HOPELESS * rates[winner]}
        kept = {id(process) for _, process in best.values()}
        for process in ways.values():
            if id(process) not in kept:
                process.close()
        return best

    def _trial(self, spec: RowSpec, process: RowProcess, batch: int) -> float:
        setting = Setting(batch)
        for _ in range(WARM_UP_CALLS):
            process.time(setting, 0.0)
        (rate,) = throughputs(batch, [process.time(setting, _TRIAL_S)])
        self._trials.append(Trial(_NATIVE, spec.options, spec.threads, batch, rate))
        return rate

    def _speed(
        self,
        native: Mapping[int, tuple[RowSpec, RowProcess]],
        rows: Mapping[str, RowProcess],
        specs: Mapping[str, RowSpec],
    ) -> tuple[Speed, ...]:
        preprocessing = (False, True) if self._subject.signature.preprocessing is not None else (False,)
        settings = [Setting(batch, decoded) for decoded in preprocessing for batch in self._batches]
        timed: dict[str, Row] = dict(rows)
        if native:
            timed = {_NATIVE: _ByBatch({batch: process for batch, (_, process) in native.items()}), **timed}
        self._reporter.line(f"  warming up {len(timed)} rows at batches {', '.join(map(str, self._batches))}")
        for row in timed.values():
            for setting in settings:
                row.time(setting, 0.0)
        calls = interleave(
            timed,
            settings,
            self._plan.rounds,
            self._plan.seconds,
            lambda fraction: self._reporter.stage("compare", fraction),
        )
        found = []
        for (name, setting), repetitions in calls.items():
            spec, process = native[setting.batch] if name == _NATIVE else (specs[name], rows[name])
            found.append(self._row(spec, process, setting, repetitions))
            self._reporter.line(
                f"  {name:<9} batch {setting.batch:>3}{' from photos' if setting.preprocessing else '':<12} "
                f"{found[-1].images_per_s:8.1f} images/s"
            )
        return tuple(found)

    def _row(
        self, spec: RowSpec, process: RowProcess, setting: Setting, repetitions: Sequence[tuple[float, ...]]
    ) -> Speed:
        return Speed(
            row=spec.row,
            runtime=process.runtime,
            device=self._device,
            batch=setting.batch,
            threads=spec.threads,
            samples=throughputs(setting.batch, repetitions),
            calls=tuple(call for repetition in repetitions for call in repetition),
            preprocessing=setting.preprocessing,
            options=spec.options,
            memory_mib=process.memory_mib(),
            size_bytes=spec.size_bytes,
            note=spec.note,
        )

    def _answers(self, rows: Mapping[str, RowProcess]) -> tuple[tuple[PhotoAnswer, ...], tuple[Agreement, ...]]:
        """Answers to the shown photos, and how often rows agree on these and on all that the build knows."""
        if not self._subject.classifies:
            return (), ()
        more = [path for path in calibration_photos() if not self._plan.photos]
        asked = [*self._photos, *more]
        paths = tuple(map(_path, asked))
        best = {row: process.answers(paths) for row, process in rows.items()}
        photos = tuple(
            PhotoAnswer(
                _path(photo).name,
                self._subject.label(photo.label + self._subject.signature.label_offset)
                if isinstance(photo, LabelledPhoto)
                else "",
                {row: self._ranked(answers[number]) for row, answers in best.items()},
            )
            for number, photo in enumerate(self._photos)
        )
        return photos, tuple(self._agreement(best, asked))

    def _ranked(self, best: _Best) -> tuple[Ranked, ...]:
        return tuple(Ranked(self._subject.label(number), score) for number, score in best)

    def _agreement(
        self, best: Mapping[str, tuple[_Best, ...]], asked: Sequence[LabelledPhoto | Path]
    ) -> Iterator[Agreement]:
        reference = next(iter(best))
        offset = self._subject.signature.label_offset
        classes = {row: [[number for number, _ in answer] for answer in answers] for row, answers in best.items()}
        labels = [photo.label + offset if isinstance(photo, LabelledPhoto) else None for photo in asked]
        for row, answers in classes.items():
            right = [(answer, label) for answer, label in zip(answers, labels, strict=True) if label is not None]
            same = [answer[0] == other[0] for answer, other in zip(answers, classes[reference], strict=True)]
            yield Agreement(
                row=row,
                reference=reference,
                photos=len(asked),
                same_top1=sum(same) / len(same),
                labelled=len(right),
                top1=sum(answer[0] == label for answer, label in right) / len(right) if right else None,
                top5=sum(label in answer for answer, label in right) / len(right) if right else None,
            )


class _ByBatch:
    """A row that another process runs at each batch size."""

    def __init__(self, processes: Mapping[int, RowProcess]) -> None:
        self._processes = processes

    def time(self, setting: Setting, seconds: float) -> tuple[float, ...]:
        """See `Row`."""
        return self._processes[setting.batch].time(setting, seconds)


def _check_photos(subject: Subject, photos: tuple[LabelledPhoto | Path, ...]) -> None:
    preprocessing = subject.signature.preprocessing
    if photos and preprocessing is None:
        taken = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in subject.inputs)
        raise BuildError(f"{subject.name} takes no photos, its inputs are {taken}: leave --image out")
    if preprocessing is not None:
        check_photos(tuple(map(_path, photos)), preprocessing)


def _packaged_photos(subject: Subject) -> tuple[LabelledPhoto | Path, ...]:
    if subject.signature.preprocessing is None:
        return ()
    return evaluation_photos() if subject.knows_imagenet else tuple(photo.path for photo in evaluation_photos())


def _path(photo: LabelledPhoto | Path) -> Path:
    return photo.path if isinstance(photo, LabelledPhoto) else photo
