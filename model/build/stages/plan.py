"""Build TensorRT plans where the runtime is TensorRT; elsewhere there are none."""

from __future__ import annotations

from typing import Final

import onnx
from pydantic import TypeAdapter

from artifact.manifest import Plan, Precision
from artifact.signature import Form
from model.build.graphs import forms_of
from model.build.stage import StageWork
from model.build.stages import evaluate, source
from model.plan.plans import PlanSources, build_plans
from model.plan.target import plan_machine

FOLDER: Final = "plans"
_PLANS: Final = "plans.json"
_BUILT: Final = TypeAdapter(tuple[Plan, ...])
_TIMINGS: Final = "timing"
_GRAPHS: Final[tuple[Precision, ...]] = ("int8", "fp32")
"""What plans are built from: the weakly typed FP16 plan comes from the FP32 graph."""


def run(work: StageWork) -> None:
    """Write the plans.

    Raises:
        BuildError: TensorRT or the GPU is missing or another than asked for, or TensorRT refuses a graph.
    """
    plans: tuple[Plan, ...] = ()
    if work.request.runtime == "tensorrt":
        model = source.load(work.earlier["source"])
        tensorrt, target = plan_machine(work.request.tensorrt, work.request.gpu_type)
        (int8,) = (row for row in evaluate.accuracy(work) if row.graph == "int8")
        graphs: dict[tuple[str, Form], onnx.ModelProto] = {
            (precision, form): onnx.load(evaluate.graph_file(work, precision, form))
            for precision in _GRAPHS
            for form in forms_of(model)
        }
        sources = PlanSources(graphs, model.fixed_batch, kept_float=frozenset(int8.kept_float))
        plans = build_plans(
            sources,
            target,
            tensorrt,
            work.folder,
            cache=work.scratch / _TIMINGS,
            progress=work.fraction,
            line=work.line,
        )
    else:
        work.line(f"  none: the runtime is {work.request.runtime}")
    (work.folder / _PLANS).write_bytes(_BUILT.dump_json(plans, by_alias=True, indent=1))


def plans(work: StageWork) -> tuple[Plan, ...]:
    """What was built, for a later stage."""
    return _BUILT.validate_json((work.earlier["plan"] / _PLANS).read_bytes())
