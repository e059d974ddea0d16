"""`model`: what is served, and how it becomes INT8."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from artifact.builtin import BUILTIN, MODEL_PACKAGES
from artifact.manifest import Runtime
from artifact.recipe import OBJECT_WITH_GENERATION, Recipe
from artifact.signature import Preprocessing
from artifact.uri import ArtifactUri
from components.settings.builder import BuilderSettings
from components.settings.section import Refusal, Section, refuse

SOURCES = tuple(f"{BUILTIN}:{name}" for name in sorted(MODEL_PACKAGES))


def _known_source(source: str) -> str:
    if source not in SOURCES:
        raise refuse(
            Refusal(source, " or ".join(SOURCES), "name a built-in model, or set model.artifact to a ready one")
        )
    return source


def _known_calibration(calibration: str) -> str:
    if calibration != BUILTIN:
        raise refuse(Refusal(calibration, BUILTIN, "leave model.calibration out: the packaged photos are the default"))
    return calibration


def _known_labels(labels: str) -> str:
    if labels and not OBJECT_WITH_GENERATION.fullmatch(labels):
        raise refuse(
            Refusal(
                labels,
                "gs://<bucket>/<object>#<generation>",
                "upload the file with one line a class, and copy its address from `gcloud storage ls -a`",
            )
        )
    return labels


def _artifact_address(address: str) -> str:
    try:
        return str(ArtifactUri.parse(address))
    except ValueError:
        raise refuse(
            Refusal(
                address,
                "gs://<bucket>/models/<key>/ with a key of 20 hexadecimal digits",
                "copy the address that `python -m model publish` prints, or another stack's output modelUri",
            )
        ) from None


class ModelSettings(Section):
    """The model. With `artifact` set nothing is built: that artifact is served."""

    source: Annotated[str, AfterValidator(_known_source)] = Field(
        default=SOURCES[0], description="the model to convert", examples=[*SOURCES]
    )
    calibration: Annotated[str, AfterValidator(_known_calibration)] = Field(
        default=BUILTIN, description="the photos that activation ranges are measured on", examples=[BUILTIN]
    )
    artifact: Annotated[str, AfterValidator(_artifact_address)] | None = Field(
        default=None,
        description="address of a ready artifact to serve instead of building one",
        examples=["gs://model-registry/models/0123456789abcdef0123/"],
    )
    runtime: Runtime = Field(default="tensorrt", description="what runs the graphs", examples=["tensorrt"])
    version: int = Field(
        default=1, ge=1, description="version number that the API shows (/v1/models/default/versions/N)", examples=[1]
    )
    signature: str = Field(
        default="", description="the SavedModel's signature to convert", examples=["serving_default"]
    )
    input_names: tuple[str, ...] = Field(
        default=(), description="tensors of a frozen graph that are fed", examples=[["input:0"]]
    )
    output_names: tuple[str, ...] = Field(
        default=(), description="tensors of a frozen graph that are answered", examples=[["softmax_tensor:0"]]
    )
    preprocess: Literal["", "exact", "fast"] = Field(
        default="", description="how JPEGs become pixels, for a model that takes JPEGs", examples=["exact"]
    )
    preprocessing: Preprocessing | None = Field(
        default=None,
        description="how photos become the input, for a model that takes numbers",
        examples=[
            {
                "decoder": "fast",
                "interpolation": "linear",
                "cropFraction": 0.875,
                "height": 224,
                "width": 224,
                "mean": [127.5, 127.5, 127.5],
                "std": [127.5, 127.5, 127.5],
            }
        ],
    )
    labels: Annotated[str, AfterValidator(_known_labels)] = Field(
        default="", description="text file with the names of the classes", examples=["gs://my-models/labels.txt#17"]
    )
    label_offset: int | None = Field(
        default=None, ge=0, description="number of the first class that `labels` names", examples=[1]
    )
    recipe: Recipe = Field(default=Recipe(), description="how the model is quantised", examples=[{"method": "mse"}])

    builder: BuilderSettings = Field(
        default=BuilderSettings(), description="the VM that builds the model", examples=[{"zone": "us-central1-a"}]
    )

    @property
    def ready(self) -> ArtifactUri | None:
        """The ready artifact, if one is named."""
        return ArtifactUri.parse(self.artifact) if self.artifact else None
