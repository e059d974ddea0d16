"""`config.pbtxt` of a Triton model: a TensorRT plan on a GPU, or an ONNX graph on the CPU.

Field names are those of Triton's model_config.proto; how the TensorRT backend captures CUDA graphs and picks among
profiles was read in its source (triton-inference-server/tensorrt_backend, src/instance_state.cc, 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from tritonclient.grpc import model_config_pb2 as config

from artifact.profiles import BatchProfile
from serving.graphs import Graph, GraphTensor
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
WARMED_ON_CPU: Final = (1, 8)
"""ONNX Runtime allocates for each size once; larger ones take long on few cores and are rare there."""
CANARY_PRIORITY: Final = 1
REQUEST_PRIORITY: Final = 2


def tensorrt_config(name: str, gpu: int, graph: Graph, profiles: Sequence[BatchProfile]) -> ModelConfig:
    """A TensorRT plan with these optimisation profiles, which bound its batches, on its GPU."""
    greatest = max(profile.greatest for profile in profiles)
    written = _config(name, gpu, graph, greatest)
    written.platform = "tensorrt_plan"
    written.default_model_filename = "model.plan"
    group = written.instance_group.add(kind=config.ModelInstanceGroup.KIND_GPU, count=INSTANCES_PER_GPU, gpus=[gpu])
    written.optimization.input_pinned_memory.enable = True
    written.optimization.output_pinned_memory.enable = True
    written.optimization.cuda.graphs = True
    if graph.fixed_batch is not None:
        # Without batching Triton captures the one shape that there is.
        _warm_up(written, graph, (1,))
        return written
    group.profile.extend(str(index) for index in range(len(profiles)))
    batches = [batch for batch in PREFERRED_BATCHES if batch <= greatest]
    written.dynamic_batching.max_queue_delay_microseconds = GPU_QUEUE_DELAY_US
    written.dynamic_batching.preferred_batch_size.extend(batches)
    for batch in (1, *batches):
        # Exact sizes only: others run without a graph. Launching costs most at 1 and 8 (a fifth of the time, measured
        # with TensorRT 8.6.1 on an H200).
        written.optimization.cuda.graph_spec.add(batch_size=batch)
    _warm_up(written, graph, (1, *batches))
    return written


def cpu_config(name: str, gpu: int, graph: Graph, onnx: Path, threads: int) -> ModelConfig:
    """An ONNX graph in ONNX Runtime, on `threads` cores, inside Triton's Python backend."""
    written = _config(name, gpu, graph, graph.max_batch)
    written.backend = "python"
    written.default_model_filename = "model.py"
    written.instance_group.add(kind=config.ModelInstanceGroup.KIND_CPU, count=INSTANCES_ON_CPU)
    written.parameters["graph"].string_value = str(onnx)
    written.parameters["threads"].string_value = str(threads)
    fixed = graph.fixed_batch is not None
    _warm_up(written, graph, (1,) if fixed else (size for size in WARMED_ON_CPU if size <= graph.max_batch))
    return written


def _config(name: str, gpu: int, graph: Graph, max_batch: int) -> ModelConfig:
    """What both have. A graph of a fixed batch is a model without batching whose tensors begin with that batch."""
    fixed = graph.fixed_batch is not None
    written = config.ModelConfig(name=name, max_batch_size=0 if fixed else max_batch)
    for tensor in graph.inputs:
        _describe(written.input.add(), tensor, graph.fixed_batch)
    for tensor in graph.outputs:
        _describe(written.output.add(), tensor, graph.fixed_batch)
    written.parameters["gpu"].string_value = str(gpu)
    if fixed:
        return written
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


def _describe(entry: ModelConfig, tensor: GraphTensor, fixed_batch: int | None) -> None:
    batch = () if fixed_batch is None else (fixed_batch,)
    entry.name = tensor.name
    entry.data_type = config.DataType.Value(TYPES[tensor.dtype].config)
    entry.dims.extend((*batch, *tensor.wire_shape))
    if not tensor.shape:
        entry.reshape.SetInParent()
        entry.reshape.shape.extend(batch)


def _warm_up(written: ModelConfig, graph: Graph, batches: Iterable[int]) -> None:
    """Run each batch size once before the model is ready, so that no client pays for what happens only once.

    To Triton a model without batching is always of batch 1.
    """
    fixed = () if graph.fixed_batch is None else (graph.fixed_batch,)
    for batch in batches:
        warm = written.model_warmup.add(name=f"batch {graph.fixed_batch or batch}", batch_size=batch)
        for tensor in graph.inputs:
            example = warm.inputs[tensor.name]
            example.data_type = config.DataType.Value(TYPES[tensor.dtype].config)
            example.dims.extend((*fixed, *(max(1, size) for size in tensor.wire_shape)))
            # Random bytes are pixels, but hardly ever sensible floats.
            if tensor.dtype == "uint8":
                example.random_data = True
            else:
                example.zero_data = True
