"""Which TensorRT plans a VM serves: the artifact's, or, where they do not fit its GPU or TensorRT, its own.

Plans run on the architecture and with the very TensorRT that they were built on and with. A VM on which none fits
builds them anew from the artifact's ONNX graphs with `trtexec`, as a last resort: it takes minutes at each new VM. It
says so in its log, in its health's reason and in a metric.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from artifact.manifest import Plan
from artifact.profiles import BatchProfile, batch_profiles
from artifact.signature import Form
from serving.graphs import Graph
from serving.processes import die_with

_log = logging.getLogger(__name__)

PRECISION: Final = "int8"
REBUILD_S: Final = 1200.0
"""For all plans of a VM. Autohealing's initial delay is 1800 s by default, counted from the VM's creation: this leaves
ten minutes for boot, container and artifact.
"""
TRTEXEC: Final = Path("/usr/src/tensorrt/bin/trtexec")
"""Where NVIDIA's containers have it; not on PATH in all of them."""
_LIBRARY: Final = "libnvinfer.so.10"


class PlanError(Exception):
    """Plans cannot be had on this VM; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Plans to build before Triton can load any. `why` says what is wrong with the artifact's."""

    why: str
    graphs: tuple[tuple[Graph, Path], ...]
    """With the ONNX file of each."""
    profiles: tuple[BatchProfile, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class PlanChoice:
    """What Triton is to load."""

    folder: Path
    profiles: tuple[BatchProfile, ...]
    rebuild: Rebuild | None = None

    def plan(self, form: Form) -> Path:
        """The plan of one form."""
        return self.folder / f"{PRECISION}.{form}.plan"


def choose(
    artifact: ArtifactFolder,
    graphs: Sequence[Graph],
    *,
    compute_capability: str,
    tensorrt: str | None,
    own_plans: Path,
) -> PlanChoice:
    """The artifact's plans where one set fits; else those that this VM must build, or has built, below `own_plans`.

    `tensorrt` is this machine's version, as in `10.13.2`, or None where it cannot be told: then the GPU alone decides.

    Raises:
        ArtifactError: the artifact lacks a plan that its manifest promises, or the graph to build one from.
    """
    if tensorrt is None:
        _log.warning("cannot tell which TensorRT is here", extra={"library": _LIBRARY})
    for plan in artifact.manifest.plans:
        if plan.compute_capability == compute_capability and _reads(tensorrt, plan.tensorrt):
            chosen = PlanChoice(artifact.path / plan.folder, _profiles(plan, graphs))
            for graph in graphs:
                if not chosen.plan(graph.form).is_file():
                    raise ArtifactError(f"{artifact.path} has no {chosen.plan(graph.form).relative_to(artifact.path)}")
            return chosen
    built = ", ".join(
        f"{p.gpu} (compute capability {p.compute_capability}, TensorRT {p.tensorrt})" for p in artifact.manifest.plans
    )
    here = f"compute capability {compute_capability}, TensorRT {tensorrt or 'unknown'}"
    folder = own_plans / artifact.manifest.key / f"sm{compute_capability.replace('.', '')}-trt{tensorrt or 'unknown'}"
    profiles = batch_profiles(graphs[0].fixed_batch)
    sources = tuple((graph, artifact.graph(PRECISION, graph.form)) for graph in graphs)
    rebuild = Rebuild(f"the artifact has plans for {built or 'nothing'}; this VM has {here}", sources, profiles, folder)
    return PlanChoice(folder, profiles, rebuild)


async def build(rebuild: Rebuild, tell: Callable[[str], None], deadline_s: float = REBUILD_S) -> int:
    """Build what is missing; how many plans of this VM's own there are then. `tell` hears what is being done.

    Raises:
        PlanError: there is no trtexec, it fails, or takes longer than `deadline_s` in all.
    """
    program = shutil.which("trtexec") or (str(TRTEXEC) if TRTEXEC.is_file() else None)
    if program is None:
        raise PlanError(
            f"{rebuild.why}; and there is no trtexec to build others with: serve the artifact on the GPU type and in "
            "the container release that it was built for"
        )
    rebuild.folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + deadline_s
    for number, (graph, onnx) in enumerate(rebuild.graphs, start=1):
        plan = rebuild.folder / f"{PRECISION}.{graph.form}.plan"
        if plan.is_file():
            # Of an earlier start of this VM: it was renamed when it was complete.
            continue
        tell(f"building TensorRT plan {number} of {len(rebuild.graphs)} here: {rebuild.why}")
        fresh = plan.with_suffix(".partial")
        arguments = command(
            program, onnx, fresh, graph=graph, profiles=rebuild.profiles, timing_cache=rebuild.folder / "timing.cache"
        )
        began = time.monotonic()
        await _run(arguments, plan.with_suffix(".log"), deadline - began)
        fresh.replace(plan)
        _log.warning(
            "built a TensorRT plan on this VM",
            extra={"plan": str(plan), "seconds": round(time.monotonic() - began, 1), "why": rebuild.why},
        )
    return len(rebuild.graphs)


def command(
    program: str, onnx: Path, plan: Path, *, graph: Graph, profiles: Sequence[BatchProfile], timing_cache: Path
) -> list[str]:
    """Command line of trtexec (TensorRT 10) that builds what the model build does: weakly typed, INT8 and FP16."""
    shapes: list[str] = []
    if graph.fixed_batch is None:
        for index, profile in enumerate(profiles):
            shapes += [
                f"--profile={index}",
                f"--minShapes={_shapes(graph, profile.smallest)}",
                f"--optShapes={_shapes(graph, profile.best)}",
                f"--maxShapes={_shapes(graph, profile.greatest)}",
            ]
    return [
        program,
        f"--onnx={onnx}",
        f"--saveEngine={plan}",
        "--int8",
        "--fp16",
        *shapes,
        f"--timingCacheFile={timing_cache}",
        "--skipInference",
    ]


def installed_tensorrt() -> str | None:
    """Version of the library that Triton loads plans with, as `10.13.2`; None where it is not there.

    TensorRT 10 answers major x 10,000 + minor x 100 + patch (NvInferVersion.h).
    """
    try:
        number = int(ctypes.CDLL(_LIBRARY).getInferLibVersion())
    except OSError:
        return None
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


async def _run(arguments: Sequence[str], log: Path, timeout_s: float) -> None:
    _log.warning("building a TensorRT plan on this VM", extra={"command": " ".join(arguments), "log": str(log)})
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "0"},
            start_new_session=True,
            preexec_fn=partial(die_with, os.getpid()),
        )
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                code = await process.wait()
        except TimeoutError:
            raise PlanError(f"trtexec has not built a plan within {REBUILD_S:.0f} s (log: {log})") from None
        finally:
            with suppress(ProcessLookupError):
                process.kill()
    if code:
        raise PlanError(f"trtexec failed with {code}: {_reason(log)} (log: {log})")


def _reason(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if "[E]" in line]
    return (errors or lines or ["it said nothing"])[-1].strip()


def _reads(here: str | None, built_by: str) -> bool:
    """Whether TensorRT `here` reads a plan of version `built_by`: major, minor and patch must be the same."""
    return here is None or built_by.split(".")[:3] == here.split(".")[:3]


def _profiles(plan: Plan, graphs: Sequence[Graph]) -> tuple[BatchProfile, ...]:
    if plan.profiles:
        return tuple(BatchProfile(*sizes) for sizes in plan.profiles)
    return batch_profiles(graphs[0].fixed_batch)


def _shapes(graph: Graph, batch: int) -> str:
    """As `image:8x224x224x3`; a name with a colon stands in quotes."""
    parts = []
    for tensor in graph.inputs:
        name = f"'{tensor.name}'" if ":" in tensor.name else tensor.name
        parts.append(f"{name}:{'x'.join(str(size) for size in (batch, *tensor.shape))}")
    return ",".join(parts)
