"""Client of the VM's Triton over gRPC: inference, and loading models again."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

# gRPC's fork handlers are for children that use its channels on; ours run other programs at once.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.graphs import Graph
from serving.tensors import TYPES, Array, from_raw, to_raw, wire_type

Message: TypeAlias = Any
"""A protobuf message, or a method that takes one: their classes are made at run time."""

SILENT: Final = "Triton does not answer"
WAITED: Final = "Request timeout expired"
"""What Triton says of a request that waited in its queue for longer than it might (core, `PriorityQueue`)."""
_NO_CONNECTION: Final = re.compile("failed to connect|Socket closed|Connection (reset|refused)|recvmsg|Broken pipe")
_UNLIMITED: Final = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
_RECONNECT: Final = (
    # A restarted Triton is found within half a second: gRPC's own back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class InferError(Exception):
    """Triton refused, failed or did not answer. `code` is gRPC's."""

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail or code.name)
        self.code = code


class Triton:
    """One channel to Triton; make and use it within one event loop."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=[*_UNLIMITED, *_RECONNECT])
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def close(self) -> None:
        """Close the channel; calls in flight end with an error."""
        await self._channel.close()

    async def ready(self, timeout_s: float) -> bool:
        """Whether the server answers and is ready to load or run models."""
        try:
            answer = await self._stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.ready)

    async def load(self, model: str, timeout_s: float) -> None:
        """Load a model of the repository, or load it again.

        Raises:
            InferError: it cannot be loaded; the text says why.
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        await self._call(self._stub.RepositoryModelLoad, request, timeout_s)

    async def unload(self, model: str, timeout_s: float) -> None:
        """Unload a model; one that is not loaded is no error.

        Raises:
            InferError: Triton did not answer.
        """
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        await self._call(self._stub.RepositoryModelUnload, request, timeout_s)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        timeout_s: float,
        *,
        priority: int = 0,
        queue_timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Run a batch: arrays [n, ...] by graph input name in, by graph output name out.

        `timeout_s` bounds the whole call, `queue_timeout_s` the part before the batch begins; None: the model's own.

        Raises:
            InferError: see there.
        """
        request = service_pb2.ModelInferRequest(model_name=model)
        for name, array in inputs.items():
            entry = request.inputs.add()
            entry.name, entry.datatype = name, wire_type(array)
            entry.shape.extend(array.shape if array.ndim > 1 else (*array.shape, 1))
            request.raw_input_contents.append(to_raw(array))
        if priority:
            request.parameters["priority"].uint64_param = priority
        if queue_timeout_s is not None:
            request.parameters["timeout"].int64_param = round(queue_timeout_s * 1e6)
        answer = await self._call(self._stub.ModelInfer, request, timeout_s)
        return {
            entry.name: from_raw(raw, entry.datatype, entry.shape)
            for entry, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }

    async def models(self, timeout_s: float) -> dict[str, bool]:
        """Models of the repository by name, and whether each is ready.

        Raises:
            InferError: Triton did not answer.
        """
        answer = await self._call(self._stub.RepositoryIndex, service_pb2.RepositoryIndexRequest(), timeout_s)
        return {entry.name: entry.state == "READY" for entry in answer.models}

    async def config(self, model: str, timeout_s: float) -> Message:
        """A loaded model's configuration (`ModelConfig`).

        Raises:
            InferError: it is not loaded, or Triton did not answer.
        """
        request = service_pb2.ModelConfigRequest(name=model)
        answer = await self._call(self._stub.ModelConfig, request, timeout_s)
        return answer.config

    async def _call(self, method: Message, request: Message, timeout_s: float) -> Message:
        try:
            return await method(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            detail = error.details() or ""
            # What gRPC says of a connection holds addresses, which are nobody's business but ours.
            raise InferError(error.code(), SILENT if _NO_CONNECTION.search(detail) else detail) from error


def sample(graph: Graph, batch: int) -> dict[str, Array]:
    """Inputs of the right types and shapes that any model must answer: zeros and empty strings."""
    inputs: dict[str, Array] = {}
    for tensor in graph.inputs:
        shape = (batch, *(max(1, size) for size in tensor.wire_shape))
        fill: Any = b"" if tensor.dtype == "string" else 0
        inputs[tensor.name] = np.full(shape, fill, TYPES[tensor.dtype].numpy)
    return inputs
