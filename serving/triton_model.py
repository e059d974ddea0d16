"""Triton Python-backend model: an ONNX graph in ONNX Runtime on the CPU. Runs inside Triton's stub process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb


class TritonPythonModel:
    """One instance of a model, in the form that Triton's Python backend calls it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph that the model's configuration names."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"])
        options.inter_op_num_threads = 1
        # Threads that spin between requests would take the cores that decode images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(parameters["graph"], options, providers=["CPUExecutionProvider"])
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run all requests as one batch; one answer each, in their order."""
        parts = {
            name: [pb.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self._inputs
        }
        batch = {name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for name, arrays in parts.items()}
        try:
            results = self._session.run(self._outputs, batch)
        except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises is these requests' answer, not our end
            return [pb.InferenceResponse(error=pb.TritonError(str(error))) for _ in requests]
        ends = np.cumsum([len(array) for array in parts[self._inputs[0]]])
        rows = zip(*(np.split(result, ends[:-1]) for result in results), strict=True)
        return [
            pb.InferenceResponse(
                output_tensors=[
                    pb.Tensor(name, np.ascontiguousarray(row)) for name, row in zip(self._outputs, answer, strict=True)
                ]
            )
            for answer in rows
        ]
