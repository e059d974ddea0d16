"""A quick throughput table: enough to see what INT8 bought on this machine, not a benchmark."""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter

from artifact.manifest import Precision
from model.build.graphs import forms_of
from model.build.stage import StageWork
from model.build.stages import evaluate, source
from model.compare.quick import QuickModel, quick_speed
from model.report.content import Speed

_ROWS: Final = "speed.json"
_SPEED: Final = TypeAdapter(tuple[Speed, ...])
_MOST_PHOTOS: Final = 8
_COMPARED: Final[tuple[Precision, ...]] = ("fp32", "int8-cpu")


def run(work: StageWork) -> None:
    """Write the table; an empty one for random weights, whose structure may have been chosen for tries alone."""
    model = source.load(work.earlier["source"], graph=True)
    rows: tuple[Speed, ...] = ()
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
    for row in rows:
        work.line(f"  {row.row:<9} {row.runtime:<22} batch {row.batch}: {row.images_per_s:7.1f} images/s")
    (work.folder / _ROWS).write_bytes(_SPEED.dump_json(rows, indent=1))


def speed(work: StageWork) -> tuple[Speed, ...]:
    """The table, for a later stage."""
    return _SPEED.validate_json((work.earlier["speed"] / _ROWS).read_bytes())
