"""From the stack's settings to the artifact that they ask for."""

from __future__ import annotations

from pathlib import Path

from artifact.key import artifact_key
from artifact.recipe import BuildRequest
from components.settings import Settings


def wanted(settings: Settings) -> BuildRequest:
    """What is to be built for these settings."""
    return BuildRequest(
        source=settings.model.source,
        calibration=settings.model.calibration,
        signature=settings.model.signature,
        input_names=settings.model.input_names,
        output_names=settings.model.output_names,
        preprocess=settings.model.preprocess,
        preprocessing=settings.model.preprocessing.preprocessing if settings.model.preprocessing else None,
        labels=settings.model.labels,
        label_offset=settings.model.label_offset,
        recipe=settings.model.recipe,
        runtime=settings.model.runtime,
        tensorrt=settings.fleet.container,
        gpu_type=settings.fleet.gpu_type,
    )


def wanted_key(repository: Path, settings: Settings) -> str:
    """Key of the artifact that this repository builds for these settings, whether or not it exists yet."""
    return artifact_key(wanted(settings).inputs(repository))
