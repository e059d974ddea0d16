"""Triton Python-backend model: an ONNX graph in ONNX Runtime on the CPU. Runs inside Triton's stub process."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import triton_python_backend_utils as pb
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

_REFUSED: Final = re.compile(r"running (\w+) node\. Name:'(.*?)' Status Message: (.+)", re.DOTALL)
"""What ONNX Runtime says of a node that cannot compute what it is fed: its operator, its name, and why."""
_AT_ONCE: Final = 4
"""Images that a core runs together at most: more of them take more time each (docs/decisions/shares-of-a-batch.md)."""
_SILENT: Final = 4
"""ONNX Runtime's log level for what ends the process; all else is some request's answer."""

Arrays = Mapping[str, npt.NDArray[Any]]
"""By input name, [n, ...] each."""


class TritonPythonModel:
    """One instance of a model, in the form that Triton's Python backend calls it.

    A single image is spread over all cores, each layer by itself, which answers it soonest. Several are cut into small
    shares, each of which one core runs, so that none waits for the others after every layer: that takes the least
    processor time.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph that the model's configuration names."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._threads = int(parameters["threads"])
        self._together = _session(parameters["graph"], self._threads)
        can_share = self._threads > 1 and config["max_batch_size"] > 0
        # Run at once from several threads, each of which does all of its share's work.
        self._alone = _session(parameters["graph"], 1) if can_share else None
        self._others = ThreadPoolExecutor(self._threads)
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run all requests as one batch; one answer each, in their order."""
        try:
            return self._answers(requests)
        except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises is these requests' answer, not our end
            if len(requests) > 1:
                # One request's values must not be the others' error.
                return [answer for request in requests for answer in self.execute([request])]
            return [pb.InferenceResponse(error=_refusal(error))]

    def _answers(self, requests: Sequence[Any]) -> list[Any]:
        parts = {
            name: [pb.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self._inputs
        }
        batch = {name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for name, arrays in parts.items()}
        sizes = [len(array) for array in parts[self._inputs[0]]]
        results = self._run(batch, sum(sizes))
        ends = np.cumsum(sizes)
        rows = zip(*(np.split(result, ends[:-1]) for result in results), strict=True)
        return [
            pb.InferenceResponse(
                output_tensors=[
                    pb.Tensor(name, np.ascontiguousarray(row)) for name, row in zip(self._outputs, answer, strict=True)
                ]
            )
            for answer in rows
        ]

    def _run(self, batch: Arrays, count: int) -> list[npt.NDArray[Any]]:
        """Outputs in their order for a batch of `count`."""
        if self._alone is None or count == 1:
            return list(self._together.run(self._outputs, batch))
        rounds = -(-count // (self._threads * _AT_ONCE))
        shares = min(count, self._threads * rounds)
        bounds = [count * share // shares for share in range(shares + 1)]
        running = [
            self._others.submit(self._alone.run, self._outputs, {n: a[first:end] for n, a in batch.items()})
            for first, end in pairwise(bounds)
        ]
        return [np.concatenate(parts) for parts in zip(*(share.result() for share in running), strict=True)]


def _refusal(error: Exception) -> Any:  # noqa: ANN401 - Triton's types are known to its stub alone
    """An invalid argument where a node finds its values wrong, such as an index beyond the end of a table."""
    refused = _REFUSED.search(str(error))
    if refused is None or not isinstance(error, InvalidArgument):
        return pb.TritonError(str(error))
    operator, node, why = refused.groups()
    text = f"node {node} ({operator}) of the model cannot compute what it is fed: {' '.join(why.split())}"
    return pb.TritonError(text, pb.TritonError.INVALID_ARG)


def _session(graph: str, threads: int) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    # Threads that spin between requests would take the cores that decode images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
