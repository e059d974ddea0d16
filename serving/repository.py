"""Triton's model repository for one VM, written from an artifact: one model a graph form and GPU."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as config

import contract
from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from artifact.manifest import Plan
from serving.graphs import Graph, GraphTensor, graphs
from serving.tensors import TYPES

ModelConfig: TypeAlias = Any
"""`inference.ModelConfig` and its parts, whose classes protobuf makes at run time."""

INSTANCES_PER_GPU: Final = 2
"""One copies its batch to and from the GPU while the other computes."""
INSTANCES_ON_CPU: Final = 1
"""ONNX Runtime spreads one batch over the cores by itself."""
QUEUE_TIMEOUT_S: Final = 10
"""A request that waits longer is rejected: its client will soon have gone."""
MAX_QUEUED_REQUESTS: Final = 4096
"""Far above what the gateway lets in; bounds memory should anything else send."""
GPU_QUEUE_DELAY_US: Final = 1000
"""What a lone request pays at most for fuller batches; on a CPU, batches do not pay."""
PREFERRED_BATCHES: Final = (8, 32, 128)
CANARY_PRIORITY: Final = 1
REQUEST_PRIORITY: Final = 2

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
    folder: Path, artifact: ArtifactFolder, gpus: Sequence[int], compute_capability: str | None
) -> tuple[TritonModel, ...]:
    """Write the repository anew, for `gpus` (by nvidia-smi's index), and name its models.

    Raises:
        ArtifactError: the artifact lacks a graph, or a plan for GPUs of this `compute_capability`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models = []
    for graph in graphs(artifact.signatures):
        for gpu in gpus:
            model = TritonModel(contract.triton_model_name(graph.form, gpu), gpu, graph)
            version = folder / model.name / "1"
            version.mkdir(parents=True)
            if artifact.manifest.runtime == "tensorrt":
                plan = _plan(artifact, compute_capability) / f"int8.{graph.form}.plan"
                if not plan.is_file():
                    raise ArtifactError(f"{artifact.path} has no {plan.relative_to(artifact.path)}")
                (version / "model.plan").symlink_to(plan)
                written = tensorrt_config(model)
            else:
                (version / "model.py").write_text(_MODEL_SOURCE.format(paths=_module_paths()))
                threads = max(1, (os.cpu_count() or 1) // len(gpus))
                written = cpu_config(model, artifact.graph("int8-cpu", graph.form), threads)
            (folder / model.name / "config.pbtxt").write_text(text_format.MessageToString(written))
            models.append(model)
    return tuple(models)


def tensorrt_config(model: TritonModel) -> ModelConfig:
    """A TensorRT plan on its GPU."""
    written = _config(model)
    written.platform = "tensorrt_plan"
    written.default_model_filename = "model.plan"
    kind = config.ModelInstanceGroup.KIND_GPU
    written.instance_group.add(kind=kind, count=INSTANCES_PER_GPU, gpus=[model.gpu])
    written.dynamic_batching.max_queue_delay_microseconds = GPU_QUEUE_DELAY_US
    written.dynamic_batching.preferred_batch_size.extend(
        batch for batch in PREFERRED_BATCHES if batch <= model.graph.max_batch
    )
    written.optimization.input_pinned_memory.enable = True
    written.optimization.output_pinned_memory.enable = True
    return written


def cpu_config(model: TritonModel, onnx: Path, threads: int) -> ModelConfig:
    """An ONNX graph in ONNX Runtime, on `threads` cores, inside Triton's Python backend."""
    written = _config(model)
    written.backend = "python"
    written.default_model_filename = "model.py"
    written.instance_group.add(kind=config.ModelInstanceGroup.KIND_CPU, count=INSTANCES_ON_CPU)
    written.parameters["graph"].string_value = str(onnx)
    written.parameters["threads"].string_value = str(threads)
    return written


def _config(model: TritonModel) -> ModelConfig:
    graph = model.graph
    written = config.ModelConfig(name=model.name, max_batch_size=graph.max_batch)
    for tensor in graph.inputs:
        _describe(written.input.add(), tensor)
    for tensor in graph.outputs:
        _describe(written.output.add(), tensor)
    written.parameters["gpu"].string_value = str(model.gpu)
    batching = written.dynamic_batching
    batching.priority_levels = REQUEST_PRIORITY
    batching.default_priority_level = REQUEST_PRIORITY
    batching.default_queue_policy.CopyFrom(
        config.ModelQueuePolicy(
            timeout_action=config.ModelQueuePolicy.REJECT,
            default_timeout_microseconds=QUEUE_TIMEOUT_S * 1_000_000,
            allow_timeout_override=True,
            max_queue_size=MAX_QUEUED_REQUESTS,
        )
    )
    return written


def _describe(entry: ModelConfig, tensor: GraphTensor) -> None:
    entry.name = tensor.name
    entry.data_type = config.DataType.Value(TYPES[tensor.dtype].config)
    entry.dims.extend(tensor.wire_shape)
    if not tensor.shape:
        entry.reshape.SetInParent()


def _plan(artifact: ArtifactFolder, compute_capability: str | None) -> Path:
    plans: tuple[Plan, ...] = artifact.manifest.plans
    for plan in plans:
        if plan.compute_capability == compute_capability:
            return artifact.path / plan.folder
    built = ", ".join(f"{p.gpu} (compute capability {p.compute_capability})" for p in plans) or "nothing"
    raise ArtifactError(
        f"{artifact.path} has TensorRT plans for {built}; this machine's GPUs have compute capability "
        f"{compute_capability or 'none'}: serve it on the GPU type it was built for, or build it for this one"
    )


def _module_paths() -> list[str]:
    """Where this process finds this repository and its packages; the stub needs the same."""
    return [path for path in sys.path if path and Path(path).is_dir()] + [str(Path.cwd())] * ("" in sys.path)
