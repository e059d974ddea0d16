"""All plans of an artifact, written into its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from artifact.manifest import Plan
from artifact.profiles import BatchProfile, batch_profiles
from artifact.signature import Form
from model.plan.builder import BuiltPlan, PlanBuilder, PlanPrecision
from model.plan.inspection import EngineSummary, parse_layers, summarise
from model.plan.log import PlanLog
from model.plan.target import PlanTarget
from model.plan.tensorrt_api import TensorRt
from model.plan.timing_cache import TimingCacheFile

if TYPE_CHECKING:
    import onnx

LOG: Final = "tensorrt.log"
PRECISIONS: Final[tuple[PlanPrecision, ...]] = ("int8", "fp16", "fp32")
"""The one that serves first, so that a graph that TensorRT refuses is known soonest."""
_SOURCE: Final[Mapping[PlanPrecision, PlanPrecision]] = {"int8": "int8", "fp16": "fp32", "fp32": "fp32"}
"""The graph that a plan is built from: TensorRT picks FP16 kernels for the FP32 graph by itself."""


@dataclass(frozen=True, slots=True)
class PlanSources:
    """What plans are made from: graphs by precision (`int8`, `fp32`) and form."""

    graphs: Mapping[tuple[str, Form], onnx.ModelProto]
    fixed_batch: int | None = None
    kept_float: frozenset[str] = frozenset()
    """Nodes of the int8 graph that are not quantised on purpose."""

    @property
    def forms(self) -> tuple[Form, ...]:
        """Forms that there are graphs of."""
        return tuple(sorted({form for _, form in self.graphs}))


def build_plans(
    sources: PlanSources,
    target: PlanTarget,
    tensorrt: TensorRt,
    folder: Path,
    *,
    cache: Path,
    progress: Callable[[float], None],
    line: Callable[[str], None],
) -> tuple[Plan, ...]:
    """Write `<precision>.<form>.plan` and `<precision>.<form>.json` below `folder`, and say what was built.

    `progress` takes 0 to 1, `line` what a person should read. Timings are kept in `cache`; TensorRT's messages go to
    `folder`/tensorrt.log.

    Raises:
        BuildError: TensorRT refuses a graph.
    """
    if target.remark:
        line(f"  {target.remark}")
    place = folder / target.folder
    place.mkdir(parents=True, exist_ok=True)
    profiles = batch_profiles(sources.fixed_batch)
    builder = PlanBuilder(tensorrt, PlanLog(folder / LOG), TimingCacheFile(cache, target))
    work = [(precision, form) for precision in PRECISIONS for form in sources.forms]
    for number, (precision, form) in enumerate(work):
        progress(number / len(work))
        graph = sources.graphs[_SOURCE[precision], form]
        name = f"{precision}.{form}"
        built = builder.build(name, graph.SerializeToString(), precision, profiles)
        summary = summarise(
            parse_layers(built.inspection),
            int8=precision == "int8",
            nodes=_convolutions(graph),
            kept_float=sources.kept_float,
        )
        (place / f"{name}.plan").write_bytes(built.content)
        (place / f"{name}.json").write_text(_document(built, summary, target, profiles), encoding="utf-8")
        for text in _told(name, built, summary):
            line(f"  {text}")
    progress(1.0)
    return (
        Plan(
            gpu=target.gpu,
            compute_capability=target.compute_capability,
            tensorrt=target.tensorrt,
            folder=target.folder,
            profiles=tuple((profile.smallest, profile.best, profile.greatest) for profile in profiles),
        ),
    )


def plan_files(folder: Path, plans: Collection[Plan]) -> tuple[str, ...]:
    """Paths, relative to `folder`, of all files that belong to `plans`: they go into the archive."""
    found = (path for plan in plans for path in (folder / plan.folder).iterdir())
    return tuple(sorted(path.relative_to(folder).as_posix() for path in found))


def _convolutions(graph: onnx.ModelProto) -> tuple[str, ...]:
    return tuple(node.name for node in graph.graph.node if node.op_type in {"Conv", "ConvTranspose"})


def _document(built: BuiltPlan, summary: EngineSummary, target: PlanTarget, profiles: tuple[BatchProfile, ...]) -> str:
    fields = {
        "gpu": target.gpu,
        "computeCapability": target.compute_capability,
        "tensorrt": target.tensorrt,
        "profiles": [[profile.smallest, profile.best, profile.greatest] for profile in profiles],
        "buildSeconds": round(built.seconds, 1),
        "planBytes": len(built.content),
        **summary.as_dict(),
    }
    return json.dumps(fields, indent=2) + "\n"


def _told(name: str, built: BuiltPlan, summary: EngineSummary) -> list[str]:
    counts = ", ".join(f"{number} in {precision}" for precision, number in summary.precisions().items())
    size = len(built.content) / 1e6
    said = f"{name}: {built.seconds:.0f} s, {size:.1f} MB, {summary.layers} layers, convolutions: {counts or 'none'}"
    return [said, *(f"  {finding}" for finding in summary.findings)]
