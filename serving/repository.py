"""Triton's model repository for one VM, written from an artifact: one model a graph form and GPU."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf import text_format

import contract
from artifact.folder import ArtifactFolder
from serving.graphs import Graph, graphs
from serving.plans import PlanChoice
from serving.triton_config import cpu_config, tensorrt_config

_MODEL_SOURCE: Final = """\
import sys; sys.path[:0] = {paths!r}
# Triton's stub takes no module path from its environment, so it is given one before anything else is imported.
from serving.triton_model import TritonPythonModel  # noqa: E402, F401
"""


@dataclass(frozen=True, slots=True)
class TritonModel:
    """A model of the repository."""

    name: str
    gpu: int
    graph: Graph


def write_repository(
    folder: Path, artifact: ArtifactFolder, gpus: Sequence[int], plans: PlanChoice | None
) -> tuple[TritonModel, ...]:
    """Write the repository anew, for `gpus` (by nvidia-smi's index), and name its models.

    `plans` are what they run, and need not be built yet; None: the artifact's graphs, on the CPU.

    Raises:
        ArtifactError: the artifact lacks a graph.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models = []
    for graph in graphs(artifact.signatures):
        for gpu in gpus:
            model = TritonModel(contract.triton_model_name(graph.form, gpu), gpu, graph)
            version = folder / model.name / "1"
            version.mkdir(parents=True)
            if plans is not None:
                (version / "model.plan").symlink_to(plans.plan(graph.form))
                written = tensorrt_config(model.name, gpu, graph, plans.profiles)
            else:
                (version / "model.py").write_text(_MODEL_SOURCE.format(paths=_module_paths()))
                threads = max(1, (os.cpu_count() or 1) // len(gpus))
                written = cpu_config(model.name, gpu, graph, artifact.graph("int8-cpu", graph.form), threads)
            (folder / model.name / "config.pbtxt").write_text(text_format.MessageToString(written))
            models.append(model)
    return tuple(models)


def _module_paths() -> list[str]:
    """Where this process finds this repository and its packages; the stub needs the same."""
    return [path for path in sys.path if path and Path(path).is_dir()] + [str(Path.cwd())] * ("" in sys.path)
