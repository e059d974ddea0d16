"""`model`: what is served, and how it becomes INT8."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from artifact.builtin import BUILTIN, KERAS, KERAS_MODELS, MODEL_PACKAGES
from artifact.manifest import Runtime
from artifact.recipe import CROP_FRACTION, DECODER, Recipe
from artifact.signature import MAX_SIDE, Preprocessing
from artifact.source import CALIBRATION_SUFFIXES, LABELS_SUFFIXES, SOURCE_SUFFIXES, check_address, is_packaged
from artifact.uri import ArtifactUri
from components.settings.builder import BuilderSettings
from components.settings.section import Refusal, Section, refuse

SOURCES = tuple(f"{BUILTIN}:{name}" for name in sorted(MODEL_PACKAGES))
_FILES = "gs://<bucket>/<object>#<generation> or a path, whose name ends in"


def _known_source(source: str) -> str:
    if is_packaged(source):
        known = (*SOURCES, *(f"{KERAS}:{name}" for name in KERAS_MODELS))
        if source not in known:
            raise refuse(Refusal(source, ", ".join(known), "name one of these, or your own model's address"))
        return source
    kinds = f"{_FILES} {', '.join(SOURCE_SUFFIXES)}, a SavedModel's folder, {SOURCES[0]}, or {KERAS}:<Name>"
    return _checked(source, "model.source", kinds, SOURCE_SUFFIXES)


def _known_calibration(calibration: str) -> str:
    kinds = f"{BUILTIN}, a folder of photos, {_FILES} {', '.join(CALIBRATION_SUFFIXES)}"
    return (
        calibration
        if calibration == BUILTIN
        else _checked(calibration, "model.calibration", kinds, CALIBRATION_SUFFIXES)
    )


def _known_labels(labels: str) -> str:
    kinds = f"{BUILTIN}, {_FILES} {', '.join(LABELS_SUFFIXES)}"
    return labels if labels in ("", BUILTIN) else _checked(labels, "model.labels", kinds, LABELS_SUFFIXES)


def _checked(address: str, setting: str, allowed: str, suffixes: tuple[str, ...]) -> str:
    try:
        check_address(address, setting, suffixes)
    except ValueError as error:
        ready = "; or set model.artifact to a ready one" if setting == "model.source" else ""
        raise refuse(Refusal(address, allowed, f"{error}{ready}")) from None
    return address


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


def _divisor(std: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(std) <= 0:
        raise refuse(Refusal(std, "three numbers above 0", "pixels are divided by them: [1, 1, 1] changes none"))
    return std


class PreprocessingSettings(Section):
    """How a photo becomes the input of a model that takes numbers."""

    decoder: Literal["fast", "exact"] = Field(default=DECODER, description="JPEG decoder", examples=["fast"])
    interpolation: Literal["linear", "area", "cubic"] = Field(
        default="linear", description="resize filter", examples=["linear"]
    )
    crop_fraction: float = Field(
        default=CROP_FRACTION,
        gt=0,
        le=1,
        description="side of the central square crop, of the short side",
        examples=[0.875],
    )
    height: int = Field(gt=0, le=MAX_SIDE, description="height of the input in pixels", examples=[224])
    width: int = Field(gt=0, le=MAX_SIDE, description="width of the input in pixels", examples=[224])
    mean: tuple[float, float, float] = Field(
        description="subtracted from red, green and blue (0 to 255)", examples=[[127.5, 127.5, 127.5]]
    )
    std: Annotated[tuple[float, float, float], AfterValidator(_divisor)] = Field(
        description="red, green and blue are divided by it", examples=[[127.5, 127.5, 127.5]]
    )

    @property
    def preprocessing(self) -> Preprocessing:
        """As `signature.json` has it."""
        return Preprocessing.model_validate(self.model_dump())


class ModelSettings(Section):
    """The model. With `artifact` set nothing is built: that artifact is served."""

    source: Annotated[str, AfterValidator(_known_source)] = Field(
        default=SOURCES[0],
        description="the model to convert",
        examples=[*SOURCES, f"{KERAS}:ResNet50V2", "gs://my-models/model.tar.gz#1700000000000000"],
    )
    calibration: Annotated[str, AfterValidator(_known_calibration)] = Field(
        default=BUILTIN, description="what activation ranges are measured on", examples=[BUILTIN]
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
        default=(),
        description="outputs to keep: a frozen graph's tensors, or some of a signature's",
        examples=[["softmax_tensor:0"]],
    )
    preprocess: Literal["", "exact", "fast"] = Field(
        default="", description="how JPEGs become pixels, for a model that takes JPEGs", examples=["exact"]
    )
    preprocessing: PreprocessingSettings | None = Field(
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
        default="",
        description="text file with the names of the classes",
        examples=["gs://my-models/labels.txt#1700000000000000"],
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
