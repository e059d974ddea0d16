"""What a serving VM is told at boot: the metadata that startup/serving.sh and `python -m serving` read."""

from pathlib import Path

import pulumi

import contract
from components.model_build import ModelBuild
from components.naming import Names
from components.settings import Settings


def serving_metadata(
    repository: Path, names: Names, settings: Settings, model: ModelBuild
) -> dict[str, pulumi.Input[str]]:
    """Metadata by key, the startup script included: so that a changed script is a changed template."""
    return {
        contract.STARTUP_SCRIPT_KEY: (repository / "startup" / "serving.sh").read_text(encoding="utf-8"),
        contract.ARTIFACT_KEY: model.model_uri,
        contract.CODE_KEY: model.code_uri,
        contract.CODE_SHA256_KEY: model.code_sha256,
        contract.CONTAINER_KEY: settings.fleet.container,
        contract.GPU_COUNT_KEY: str(settings.fleet.gpu_count),
        contract.STACK_KEY: f"{names.program}/{names.stack}",
        contract.MODEL_VERSION_KEY: str(settings.model.version),
        contract.METRIC_SOURCE_KEY: settings.autoscaling.metric_source,
    }
