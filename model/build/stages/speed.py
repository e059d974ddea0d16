"""A quick comparison with native TensorFlow: enough to see what INT8 bought on this machine, not a benchmark."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pydantic import TypeAdapter

from artifact.manifest import Precision
from model.build.graphs import forms_of
from model.build.stage import StageWork
from model.build.stages import evaluate, source
from model.compare.quick import QuickModel, native_answers, quick_speed
from model.report.content import PhotoAnswer, Speed

_ROWS: Final = "speed.json"
_SPEED: Final = TypeAdapter(tuple[Speed, ...])
_MOST_PHOTOS: Final = 8
_COMPARED: Final[tuple[Precision, ...]] = ("fp32", "fp16", "int8-cpu")
_ANSWERS: Final = "native.json"
_PHOTO_ANSWERS: Final = TypeAdapter(tuple[PhotoAnswer, ...])


def run(work: StageWork) -> None:
    """Write the table, and the photos' answers with TensorFlow's.

    For random weights, whose structure may have been chosen for tries alone, both are as good as empty.
    """
    model = source.load(work.earlier["source"], graph=True)
    rows: tuple[Speed, ...] = ()
    answered = evaluate.photo_answers(work)
    if model.weights == "trained":
        form = forms_of(model)[0]
        compared = QuickModel(
            native=model.frozen,
            output=model.classifier or model.graph_outputs[0],
            graphs={precision: evaluate.graph_file(work, precision, form) for precision in _COMPARED},
            form=form,
            inputs=model.inputs,
            photos=work.material(model).some_photos(_MOST_PHOTOS),
            preprocessing=model.preprocessing,
            layout=model.layout,
            fixed_batch=model.fixed_batch,
        )
        rows = quick_speed(compared, work.fraction)
        if answered:
            shown = work.material(model).judged_photos()[-len(answered) :]
            native = native_answers(compared, (photo.path.read_bytes() for photo in shown), model.label_of)
            answered = tuple(
                replace(answer, answers={"native": best, **answer.answers})
                for answer, best in zip(answered, native, strict=True)
            )
    for row in rows:
        work.line(f"  {row.row:<9} {row.runtime:<22} batch {row.batch}: {row.images_per_s:7.1f} images/s")
    (work.folder / _ROWS).write_bytes(_SPEED.dump_json(rows, indent=1))
    (work.folder / _ANSWERS).write_bytes(_PHOTO_ANSWERS.dump_json(answered, indent=1))


def speed(work: StageWork) -> tuple[Speed, ...]:
    """The table, for a later stage."""
    return _SPEED.validate_json((work.earlier["speed"] / _ROWS).read_bytes())


def photo_answers(work: StageWork) -> tuple[PhotoAnswer, ...]:
    """What TensorFlow and each graph answer to photos, for a later stage."""
    return _PHOTO_ANSWERS.validate_json((work.earlier["speed"] / _ANSWERS).read_bytes())
