"""`model`: what is served, and how it becomes INT8."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from artifact.builtin import BUILTIN, MODEL_PACKAGES
from artifact.manifest import Runtime
from artifact.recipe import Recipe
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
    recipe: Recipe = Field(default=Recipe(), description="how the model is quantised", examples=[{"method": "mse"}])

    builder: BuilderSettings = Field(
        default=BuilderSettings(), description="the VM that builds the model", examples=[{"zone": "us-central1-a"}]
    )

    @property
    def ready(self) -> ArtifactUri | None:
        """The ready artifact, if one is named."""
        return ArtifactUri.parse(self.artifact) if self.artifact else None
