"""Triton Python-backend model that does nothing: the same answer for whatever is asked. Runs inside Triton's stub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    """One instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Make the answer."""
        (output,) = json.loads(args["model_config"])["output"]
        self._name = output["name"]
        self._row = np.linspace(0.0, 1.0, int(output["dims"][0]), dtype=np.float32)[np.newaxis]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One row for each request."""
        return [pb.InferenceResponse(output_tensors=[pb.Tensor(self._name, self._row)]) for _ in requests]
