"""The stages of a build, in order."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from artifact.archive import file_entry, write_archive
from artifact.folder import LABELS_FILE, ArtifactFolder, dump
from artifact.key import artifact_key
from artifact.manifest import MANIFEST_FILE, Accuracy, GateResult, Manifest, Precision, SpeedRow, graph_path
from artifact.preprocessing import load_image
from artifact.recipe import BuildRequest
from artifact.run import new_run
from artifact.signature import SIGNATURE_FILE, Form, Preprocessing
from model.build.folder import finished, install, work_folder
from model.build.machine import peak_memory_gib, tool_versions
from model.build.progress import Journal, Reporter, native_output_to
from model.build.report import PhotoAnswer, write_report
from model.errors import BuildError

if TYPE_CHECKING:
    import onnx

    from model.evaluate.images import EvaluationSet
    from model.source.models import SourceModel

LOG: Final = "log.txt"
LIBRARIES_LOG: Final = "libraries.log"
"""What TensorFlow and ONNX Runtime wrote to standard error."""
_BATCH: Final = 4
"""Images that are run at once where every inner tensor may be held: the build's memory is mostly this."""
_PRECISIONS: Final[tuple[Precision, ...]] = ("int8", "int8-cpu", "fp16", "fp32")
_FORMS: Final[tuple[Form, ...]] = ("image", "tensor")


@dataclass(frozen=True, slots=True)
class Built:
    """A finished artifact, and whether this call made it."""

    folder: ArtifactFolder
    created: bool


@dataclass(frozen=True, slots=True)
class _Graphs:
    """Every graph of the artifact. `logits` is the tensor before the softmax, in all but fp16 a float tensor."""

    by_name: Mapping[tuple[Precision, Form], onnx.ModelProto]
    logits: str


@dataclass(frozen=True, slots=True)
class _Made:
    """What the stages up to packing leave."""

    source: SourceModel
    graphs: _Graphs
    accuracy: tuple[Accuracy, ...]
    speed: tuple[SpeedRow, ...]
    photos: tuple[PhotoAnswer, ...]


def build(request: BuildRequest, repository: Path, out: Path, reporter: Reporter, run: str = "") -> Built:
    """Build the artifact that `request` asks for into the folder `out`, unless it is there already.

    `run` is the id that its manifest names; a new one by default.

    Raises:
        BuildError: a gate failed, a tool is missing, or `out` cannot be used. `out` is then as it was before.
        ValueError: the request names an unknown source or calibration set.
    """
    inputs = request.inputs(repository)
    key = artifact_key(inputs)
    standing = finished(out, key)
    if standing is not None:
        return Built(standing, created=False)
    _refuse_plans(request)
    with work_folder(out) as work:
        journal = Journal(work / LOG, reporter)
        journal.line(f"artifact {key}: {request.source}, {request.recipe.canonical(request.runtime)}")
        with native_output_to(work / LIBRARIES_LOG):
            try:
                made = _make(request, work, journal)
            except BuildError as error:
                journal.note(f"failed: {error}")
                raise BuildError(f"{error} (log: {work / LOG})") from error
        with journal.stage("archive"):
            manifest = _write(work, made, key, request=request, inputs=inputs.as_dict(), run=run or new_run())
        write_report(work, manifest, made.photos, journal.seconds, peak_memory_gib())
        journal.line(f"{sum(journal.seconds.values()):.0f} s in all, {peak_memory_gib():.2f} GiB at most")
        install(work, out)
    return Built(ArtifactFolder(out), created=True)


def _refuse_plans(request: BuildRequest) -> None:
    """An artifact for the TensorRT runtime without plans would be refused by every VM that fetches it."""
    if request.runtime == "tensorrt":
        raise BuildError(
            "the runtime is tensorrt and this version writes no TensorRT plans yet: ask for --runtime onnxruntime-cpu "
            "(setting model.runtime), whose INT8 graph runs in ONNX Runtime on CPUs"
        )


def _make(request: BuildRequest, work: Path, journal: Journal) -> _Made:
    """Every graph of the artifact, checked and measured."""
    # These import TensorFlow or ONNX Runtime, which take seconds: whoever asks for a key or for help needs neither.
    from model.evaluate.images import evaluation_set  # noqa: PLC0415
    from model.export.onnx_export import export_onnx  # noqa: PLC0415
    from model.source.models import prepare_source  # noqa: PLC0415
    from model.source.photos import evaluation_photos  # noqa: PLC0415

    saved_model = work / "saved_model"
    with journal.stage("source"):
        source = prepare_source(request, saved_model)
    with journal.stage("export"):
        fp32 = export_onnx(source.frozen, source.graph_outputs)
        images = evaluation_set(evaluation_photos(), _preprocessing(source))
        _check_export(fp32, images, source, journal)
    with journal.stage("calibrate"):
        graphs = _quantise(fp32, _preprocessing(source), request, journal)
    with journal.stage("evaluate"):
        accuracy, photos = _evaluate(graphs, images, source, journal)
    if source.weights == "random":
        journal.line("  random weights: the graphs pass no accuracy gate, and their answers mean nothing")
        accuracy = tuple(row.model_copy(update={"gates": ()}) for row in accuracy)
    _check_accuracy(accuracy)
    with journal.stage("speed"):
        speed = _measure(graphs, images, source) if source.weights == "trained" else ()
    for row in speed:
        journal.line(f"  {row.precision:<9} {row.runtime:<12} batch {row.batch}: {row.images_per_s:7.1f} images/s")
    shutil.rmtree(saved_model, ignore_errors=True)
    return _Made(source, graphs, accuracy, speed, photos)


def _preprocessing(source: SourceModel) -> Preprocessing:
    if source.preprocessing is None:
        raise BuildError("the model takes no images, and this version calibrates on photos only")
    return source.preprocessing


def _check_export(fp32: onnx.ModelProto, images: EvaluationSet, source: SourceModel, journal: Journal) -> None:
    from model.evaluate.gates import export_gates  # noqa: PLC0415 - see _make
    from model.evaluate.images import batches, normalise  # noqa: PLC0415 - see _make
    from model.graph import logit_tensors, session  # noqa: PLC0415 - see _make

    tensors = normalise(images.pixels[images.plain], _preprocessing(source))
    exported, name = session(fp32, logit_tensors(fp32)), fp32.graph.input[0].name
    for output, logits in zip(source.graph_outputs, logit_tensors(fp32), strict=True):
        original = source.frozen.runner(output, before_softmax=True)
        parts = list(batches(tensors, _BATCH))
        answers = np.concatenate([exported.run([logits], {name: part})[0] for part in parts])
        gates = export_gates(np.concatenate([original(part) for part in parts]), answers)
        journal.line(f"  {output}: {', '.join(_phrase(gate) for gate in gates)}")
        _refuse("the exported FP32 graph", gates)


def _quantise(fp32: onnx.ModelProto, preprocessing: Preprocessing, request: BuildRequest, journal: Journal) -> _Graphs:
    from model.evaluate.images import batches, normalise  # noqa: PLC0415 - see _make
    from model.export.half import half_graph  # noqa: PLC0415 - see _make
    from model.export.image_form import pixel_range, with_image_input  # noqa: PLC0415 - see _make
    from model.graph import logit_tensors  # noqa: PLC0415 - see _make
    from model.quantise.int8 import calibrated_tensors, cpu_graph, tensorrt_graph  # noqa: PLC0415 - see _make
    from model.quantise.statistics import collect  # noqa: PLC0415 - see _make
    from model.source.photos import calibration_photos  # noqa: PLC0415 - see _make

    photos = calibration_photos()
    pixels = np.stack([load_image(path.read_bytes(), preprocessing) for path in photos])
    histograms = collect(
        fp32,
        calibrated_tensors(fp32),
        lambda: (normalise(batch, preprocessing) for batch in batches(pixels, _BATCH)),
        journal.fraction,
    )
    recipe = request.recipe
    tensor_forms: dict[Precision, onnx.ModelProto] = {
        "int8": tensorrt_graph(fp32, histograms, recipe.method),
        "int8-cpu": cpu_graph(fp32, histograms, recipe, pixel_range(preprocessing)),
        "fp16": half_graph(fp32),
        "fp32": fp32,
    }
    graphs: dict[tuple[Precision, Form], onnx.ModelProto] = {}
    for precision, graph in tensor_forms.items():
        graphs[precision, "tensor"] = graph
        graphs[precision, "image"] = with_image_input(graph, preprocessing)
    (logits,) = logit_tensors(fp32)
    journal.line(f"  {len(photos)} photos, {len(histograms)} tensors, method {recipe.method}")
    return _Graphs(graphs, logits)


def _evaluate(
    graphs: _Graphs, images: EvaluationSet, source: SourceModel, journal: Journal
) -> tuple[tuple[Accuracy, ...], tuple[PhotoAnswer, ...]]:
    from model.evaluate.accuracy import compare, image_logits  # noqa: PLC0415 - see _make
    from model.source.photos import evaluation_photos  # noqa: PLC0415 - see _make

    measured: tuple[Precision, ...] = ("fp32", "int8", "int8-cpu")
    logits: dict[Precision, npt.NDArray[np.float32]] = {}
    for number, precision in enumerate(measured):
        graph = graphs.by_name[precision, "image"]
        logits[precision] = image_logits(
            graph,
            graphs.logits,
            images,
            lambda done, n=number: journal.fraction((n + done) / len(measured)),  # type: ignore[misc]
        )
    accuracy = tuple(compare(name, logits["fp32"], logits[name], images) for name in measured[1:])
    for row in accuracy:
        journal.line(
            f"  {row.graph:<8} agreement {row.agreement:.4f}, SQNR {row.sqnr_db:.1f} dB, "
            f"top-1 {row.top1:.3f} (FP32 {row.top1_fp32:.3f}) on {row.evaluated_images} images"
        )
    plain = {name: scores[images.plain].argmax(1) for name, scores in logits.items()}
    photos = tuple(
        PhotoAnswer(
            photo.path.name,
            source.labels[photo.label],
            {name: source.labels[classes[number]] for name, classes in plain.items()},
        )
        for number, photo in enumerate(evaluation_photos())
    )
    return accuracy, photos


def _check_accuracy(accuracy: tuple[Accuracy, ...]) -> None:
    for row in accuracy:
        _refuse(f"the {row.graph} graph", row.gates)


def _refuse(what: str, gates: tuple[GateResult, ...]) -> None:
    failed = [_phrase(gate) for gate in gates if not gate.passed]
    if failed:
        raise BuildError(f"{what} is too far from the original: {'; '.join(failed)}")


def _phrase(gate: GateResult) -> str:
    return f"{gate.name} {gate.value:.3g} (threshold {gate.threshold:g})"


def _measure(graphs: _Graphs, images: EvaluationSet, source: SourceModel) -> tuple[SpeedRow, ...]:
    from model.evaluate.images import normalise  # noqa: PLC0415 - see _make
    from model.evaluate.speed import BATCHES, Contender, measure  # noqa: PLC0415 - see _make
    from model.graph import session  # noqa: PLC0415 - see _make

    pixels = images.pixels[: max(BATCHES)]
    tensors = normalise(pixels, _preprocessing(source))
    (output,) = source.graph_outputs

    def onnx_runtime(precision: Precision) -> Contender:
        graph = graphs.by_name[precision, "image"]
        runner, name = session(graph), graph.graph.input[0].name

        def run(batch: npt.NDArray[Any]) -> object:
            return runner.run([output], {name: batch})

        return Contender(precision, "ONNX Runtime", run, pixels)

    native = Contender("native", "TensorFlow", source.frozen.runner(output), tensors)
    return measure((native, onnx_runtime("fp32"), onnx_runtime("int8-cpu")))


def _write(work: Path, made: _Made, key: str, *, request: BuildRequest, inputs: dict[str, str], run: str) -> Manifest:
    """The archive's files, the archive, and the manifest last."""
    (work / "onnx").mkdir()
    names = [LABELS_FILE, SIGNATURE_FILE]
    for (precision, form), graph in made.graphs.by_name.items():
        name = graph_path(precision, form)
        (work / name).write_bytes(graph.SerializeToString(deterministic=True))
        names.append(name)
    (work / LABELS_FILE).write_text("".join(f"{label}\n" for label in made.source.labels), encoding="utf-8")
    (work / SIGNATURE_FILE).write_bytes(dump(made.source.signatures()))
    manifest = Manifest(
        key=key,
        runtime=request.runtime,
        weights=made.source.weights,
        inputs=inputs,
        tools=tool_versions(),
        archive=write_archive(work, names),
        files={name: file_entry(work / name) for name in sorted(names)},
        precisions=_PRECISIONS,
        accuracy=made.accuracy,
        speed=made.speed,
        run=run,
    )
    (work / MANIFEST_FILE).write_bytes(dump(manifest))
    return manifest
