"""How a model is quantised, and with that the rest of what an artifact's key is made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from artifact.builtin import BUILTIN, calibration_identity, source_identity
from artifact.key import ArtifactInputs, code_digest
from artifact.manifest import Runtime

CalibrationMethod = Literal["max", "percentile", "mse", "entropy"]
NONE: Final = "none"
"""TensorRT version and GPU type of an artifact without plans."""


class Recipe(BaseModel):
    """The dials of quantisation, as in the `model.recipe` setting."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    method: CalibrationMethod = "mse"
    """How an activation's range is chosen from its histogram."""
    cpu_weight_bits: Literal[7, 8] = 7
    """Of the CPU graph: 8 for CPUs with VNNI or AMX; 7 for all, as others add products in pairs that saturate."""

    def canonical(self, runtime: Runtime) -> str:
        """Canonical JSON of the recipe and of what will run the graphs, as the artifact's key takes it."""
        return json.dumps(self.model_dump(by_alias=True) | {"runtime": runtime}, sort_keys=True, separators=(",", ":"))


class BuildRequest(BaseModel):
    """What a person asks the model build for: settings in, key out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = f"{BUILTIN}:efficientnet-lite0"
    calibration: str = BUILTIN
    recipe: Recipe = Recipe()
    runtime: Runtime = "onnxruntime-cpu"
    tensorrt: str = NONE
    """TensorRT version, or the container that holds it."""
    gpu_type: str = NONE
    """Accelerator type, as in `nvidia-tesla-t4`."""

    def inputs(self, repository: Path) -> ArtifactInputs:
        """Everything that decides the artifact, read from a checkout of this repository.

        Raises:
            ValueError: an unknown source or calibration set.
        """
        on_gpu = self.runtime == "tensorrt"
        return ArtifactInputs(
            source=source_identity(self.source, repository),
            calibration=calibration_identity(self.calibration, repository),
            recipe=self.recipe.canonical(self.runtime),
            code=code_digest(repository),
            tensorrt=self.tensorrt if on_gpu else NONE,
            gpu_type=self.gpu_type if on_gpu else NONE,
        )
