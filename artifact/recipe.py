"""How a model is quantised, and with that the rest of what an artifact's key is made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from artifact.builtin import BUILTIN
from artifact.key import ArtifactInputs, code_digest
from artifact.manifest import Runtime
from artifact.signature import Preprocessing
from artifact.source import calibration_identity, labels_identity, source_identity

CalibrationMethod = Literal["max", "percentile", "mse", "entropy"]
NONE: Final = "none"
"""TensorRT version and GPU type of an artifact without plans."""
CROP_FRACTION: Final = 0.875
"""Share of a photo's short side that a model of numbers is shown where nobody says otherwise: 224 of 256, as ImageNet's
evaluation does."""
DECODER: Final = "fast"
"""Of photos, likewise."""
_INTERFACE: Final = {
    "signature",
    "input_names",
    "output_names",
    "preprocess",
    "label_offset",
    "preprocessing",
}
"""Fields of a BuildRequest that say how the source is read, beside its labels."""


class Recipe(BaseModel):
    """The dials of quantisation, as in the `model.recipe` setting."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    method: CalibrationMethod = "mse"
    """How an activation's range is chosen from its histogram."""
    cpu_weight_bits: Literal[7, 8] = 7
    """Of the CPU graph: 8 for CPUs with VNNI or AMX; 7 for all, as others add products in pairs that saturate."""
    equalise: bool = False
    """Spread weight ranges evenly over the channels of consecutive layers before quantising."""
    bias_correction: bool = True
    """Take the mean error that quantised weights make on the calibration set out of each layer's bias."""
    repair: bool = True
    """Where a gate fails, equalise, then keep the most sensitive layers in floats, before the build is refused."""

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
    signature: str = ""
    """Which of the SavedModel's signatures; empty for its only one, or `serving_default`."""
    input_names: tuple[str, ...] = ()
    """Tensors of a frozen graph that are fed, which has no signature to name them."""
    output_names: tuple[str, ...] = ()
    """Outputs to keep: tensors of a frozen graph, or some of a signature's outputs; empty: all."""
    preprocess: Literal["", "exact", "fast"] = ""
    """Of a model that takes JPEGs: `exact` keeps its own filter, `fast` takes serving's; empty: as the model does."""
    labels: str = ""
    """Text file with a line a class: a path, `gs://bucket/object#generation`, or `builtin` for ImageNet's 1000 names;
    empty for the model's own, or none."""
    label_offset: int | None = None
    """Subtracted from a class index to find its line of `labels`; None to find it from the number of classes."""
    preprocessing: Preprocessing | None = None
    """How a photo becomes the input of a model that takes numbers; None where it is no image, or the model says."""

    def inputs(self, repository: Path) -> ArtifactInputs:
        """Everything that decides the artifact, read from a checkout of this repository.

        Raises:
            ValueError: an unknown source or calibration set.
        """
        on_gpu = self.runtime == "tensorrt"
        return ArtifactInputs(
            source=source_identity(self.source, repository),
            calibration=calibration_identity(self.calibration, repository),
            interface=self._interface(),
            recipe=self.recipe.canonical(self.runtime),
            code=code_digest(repository),
            tensorrt=self.tensorrt if on_gpu else NONE,
            gpu_type=self.gpu_type if on_gpu else NONE,
        )

    def _interface(self) -> str:
        asked = self.model_dump(mode="json", include=_INTERFACE)
        asked["labels"] = labels_identity(self.labels)
        return json.dumps(asked, sort_keys=True, separators=(",", ":"))
