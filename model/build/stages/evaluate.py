"""Compare every graph with FP32 on photos that calibration has not seen; repair, or stop, what changed answers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnx
from pydantic import TypeAdapter

from artifact.manifest import Accuracy, Precision, graph_path
from artifact.signature import Form
from model.build.calibrated import Calibrated
from model.build.evaluation import Evaluation, part_of
from model.build.graphs import QUANTISED
from model.build.material import Material
from model.build.mending import Mender
from model.build.refusal import refuse
from model.build.stage import StageWork
from model.build.stages import calibrate, optimise, quantise, source
from model.build.whole_way import WholeWay
from model.evaluate.accuracy import Judged
from model.evaluate.metrics import softmax
from model.export.half import half_graph
from model.report.content import TOP, PhotoAnswer, QuantisedGraph, Ranked
from model.source.models import SourceModel

_ACCURACY: Final = "accuracy.json"
_PHOTOS: Final = "photos.json"
_LAYERS: Final = "layers.json"
_ACCURACIES: Final = TypeAdapter(tuple[Accuracy, ...])
_PHOTO_ANSWERS: Final = TypeAdapter(tuple[PhotoAnswer, ...])
_GRAPHS: Final = TypeAdapter(tuple[QuantisedGraph, ...])
_MOST_SHOWN: Final = 20
"""Photos without labels whose answers the report shows."""
_SHARES: Final = {"int8": (0.15, 0.55, 0.75), "int8-cpu": (0.75, 0.8, 0.95)}
"""Of the stage's time: where judging a precision begins, where its layers are looked at, and where that ends."""


def run(work: StageWork) -> None:
    """Write accuracy.json, photos.json, layers.json and the graphs that had to be repaired.

    Raises:
        BuildError: a graph is too far from FP32.
    """
    model = source.load(work.earlier["source"])
    material = work.material(model)
    fp32 = onnx.load(work.earlier["optimise"] / optimise.FP32)
    base = onnx.load(work.earlier["calibrate"] / calibrate.BASE)
    calibrated = Calibrated(base, calibrate.load(work.earlier["calibrate"]), work.request.recipe, model, material)
    evaluation = Evaluation(model, material, fp32, part_of(work.fraction, 0, _SHARES["int8"][0]))
    trained = model.weights == "trained"
    original = source.original(work.earlier["source"])
    whole = WholeWay.of(original, material, model, work.line) if original else None
    rows: list[Accuracy] = []
    layers: list[QuantisedGraph] = []
    for precision in QUANTISED:
        start, middle, end = _SHARES[precision]
        mender = Mender(precision, calibrated, evaluation, part_of(work.fraction, start, middle))
        mended = mender.judge(may_repair=work.request.recipe.repair and trained)
        rows.append(mended.accuracy)
        work.line(f"  {sentence(mended.accuracy)}")
        for step in mended.repairs:
            work.line(f"    repair: {step}")
        if mended.repairs:
            quantise.write_graphs(work.folder, precision, mended.graph, model)
        rows[-1] = whole.judge(rows[-1], mended.graph) if whole else rows[-1]
        if trained:
            refuse(f"the {precision} graph", rows[-1].gates)
        layers.append(mender.layers(mended, part_of(work.fraction, middle, end)))
    rows.append(evaluation.half(half_graph(fp32)))
    work.line(f"  {sentence(rows[-1])}")
    if trained:
        refuse("the fp16 graph", rows[-1].gates)
    else:
        work.line("  random weights: the graphs pass no accuracy gate, and their answers mean nothing")
        rows = [row.model_copy(update={"gates": ()}) for row in rows]
    (work.folder / _ACCURACY).write_bytes(_ACCURACIES.dump_json(tuple(rows), by_alias=True, indent=1))
    (work.folder / _LAYERS).write_bytes(_GRAPHS.dump_json(tuple(layers), indent=1))
    answered = _photo_answers(evaluation, material, model)
    (work.folder / _PHOTOS).write_bytes(_PHOTO_ANSWERS.dump_json(answered, indent=1))


def graph_file(work: StageWork, precision: Precision, form: Form) -> Path:
    """The artifact's graph, for a later stage: a repaired one, or as `quantise` has written it."""
    repaired = work.earlier["evaluate"] / graph_path(precision, form)
    return repaired if repaired.is_file() else work.earlier["quantise"] / graph_path(precision, form)


def accuracy(work: StageWork) -> tuple[Accuracy, ...]:
    """Accuracy of each graph but FP32's, for a later stage."""
    return _ACCURACIES.validate_json((work.earlier["evaluate"] / _ACCURACY).read_bytes())


def photo_answers(work: StageWork) -> tuple[PhotoAnswer, ...]:
    """What each graph answers to photos, for a later stage."""
    return _PHOTO_ANSWERS.validate_json((work.earlier["evaluate"] / _PHOTOS).read_bytes())


def layers(work: StageWork) -> tuple[QuantisedGraph, ...]:
    """The layers of each quantised graph, for a later stage."""
    return _GRAPHS.validate_json((work.earlier["evaluate"] / _LAYERS).read_bytes())


def sentence(row: Accuracy) -> str:
    """The figures of one graph in a line."""
    parts = [f"SQNR {row.sqnr_db:.1f} dB"]
    if row.agreement is not None and row.agreement_interval is not None:
        low, high = row.agreement_interval
        parts.append(f"agreement {row.agreement:.4f} ({low:.4f} to {high:.4f})")
    if row.top1 is not None:
        parts.append(f"top-1 {row.top1:.3f} (FP32 {row.top1_fp32:.3f})")
    how = f"in {row.folds} folds" if row.folds else "by its own graph"
    return f"{row.graph:<8} {', '.join(parts)}; {row.evaluated_images} instances of {row.photos}, {how}, on a CPU"


def _photo_answers(evaluation: Evaluation, material: Material, model: SourceModel) -> tuple[PhotoAnswer, ...]:
    if model.classifier is None:
        return ()
    judged = material.judged_photos()
    shown = range(max(0, len(judged) - (material.split.beside or _MOST_SHOWN)), len(judged))
    return tuple(
        PhotoAnswer(
            judged[number].path.name,
            model.label_of(judged[number].label),
            {name: _ranked(own, number, model.classifier, model) for name, own in evaluation.own.items()},
        )
        for number in shown
    )


def _ranked(own: Judged, photo: int, classifier: str, model: SourceModel) -> tuple[Ranked, ...]:
    """The first answers of one graph to a photo as serving cuts it."""
    row = int((own.images.photos == photo).argmax())
    scores = softmax(own.answer[classifier][row : row + 1])[0]
    best = scores.argsort()[::-1][:TOP]
    return tuple(Ranked(model.label_of(int(number)), round(float(scores[number]), 6)) for number in best)
